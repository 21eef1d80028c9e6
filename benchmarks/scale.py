"""Time and peak memory of every stage of a run, on synthetic graphs of 10,000 to 2,449,029 nodes.

    OMP_NUM_THREADS=2 python benchmarks/scale.py --out results.json --plot scale.png

The largest graph has the size and shape of ogbn-products: 2,449,029 nodes, about 61.9 million undirected edges, 100
features, 47 classes, and a split into 8, 2 and 90 %. Every size runs in its own process: a sampled GraphSAGE teacher,
its layer-wise logits, the diffusion encoder, KRD's targets, a mini-batch student, the evaluation, and saving the run.
The folder --work contains graphs and checkpoints. Finished sizes are not repeated. An interrupted size continues and is
marked in the results, because the times of its stages come from two processes.

Prints two Markdown tables, of seconds and of gigabytes. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from timing import machine

PRODUCTS = 2_449_029
SIZES = (10_000, 100_000, 1_000_000, PRODUCTS)
STAGES = ("data", "teacher", "logits", "encoder", "regularizer", "student", "evaluation", "latency", "save")
OF_AN_EPOCH = ("teacher", "student")


def options(nodes: int, epochs: int, noise_samples: int) -> dict[str, Any]:
    """Return the configuration of a run; everything that grows with the graph is processed in mini-batches."""
    return {
        "dataset": {
            "kind": "synthetic",
            "num_nodes": nodes,
            "num_classes": 47,
            "num_features": 100,
            # Gives 61.9 million edges on the largest graph after repeated edges are dropped.
            "average_degree": 51.83,
            "split": "0.08/0.02/0.9",
            "memory_map": "always",
        },
        "teacher": {
            "kind": "sage",
            "training": {"sampler": "neighbor", "fanouts": [5, 10], "epochs": epochs},
        },
        "encoder": {"kind": "diffusion"},
        "regularizer": {"kind": "krd", "noise_samples": noise_samples},
        "student": {"kind": "rbm", "pretrain_epochs": 1},
        "training": {"batch_size": 4096, "epochs": epochs},
        "device": "cpu",
        "seed": 0,
    }


def memory() -> dict[str, float]:
    """Return the memory of this process in gigabytes: peak since the last call, and current use by kind."""
    fields = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value.split()[0]) * 1024 / 1e9
    found = {"peak": fields["VmHWM"], "held": fields["RssAnon"], "mapped": fields["RssFile"]}
    # Resets the peak.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return found


def measure(nodes: int, epochs: int, noise_samples: int, work: Path) -> dict[str, Any]:
    """Run one size in this process and return the measurements."""
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    from rich.console import Console

    from dgl_rbm import Callback, Distiller
    from dgl_rbm.console.progress import progress_for
    from dgl_rbm.run.config import resolve_config
    from dgl_rbm.teachers import sampling

    # Layer-wise inference for every size, as the largest one needs; small graphs default to full-graph inference.
    sampling._FULL_GRAPH_BYTES_ON_CPU = 0

    stages: dict[str, dict[str, Any]] = {}

    class Watch(Callback):
        """Record the end times of steps and the memory of each stage."""

        def __init__(self) -> None:
            self.last = self.processor = 0.0

        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            found = memory()["peak"]
            # The first measurement is the memory of the imported libraries.
            between = stages.setdefault("between", {"first": found, "peak": found})
            between["peak"] = max(between["peak"], found)
            stages[stage] = {"steps": []}
            self.last = time.perf_counter()
            self.processor = time.process_time()

        def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
            now = time.perf_counter()
            stages[stage]["steps"].append(round(now - self.last, 3))
            self.last = now

        def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
            processor = round(time.process_time() - self.processor, 3)
            stages[stage] |= {"seconds": round(seconds, 3), "processor": processor, **memory()}
            notes.write_text(json.dumps(stages), encoding="utf-8")
            print(f"{nodes:,} nodes: {stage} {seconds:.1f} s, {stages[stage]['peak']:.2f} GB", flush=True)

        def on_stage_reused(self, stage: str, seconds: float) -> None:
            # Measured by the interrupted process, unless its file of stages is missing.
            stages.setdefault(stage, {"steps": [seconds], "seconds": seconds, "processor": 0.0, "peak": 0.0})

    watch = Watch()
    resolved = resolve_config(options(nodes, epochs, noise_samples))
    folder, notes = work / f"run-{nodes}", work / f"stages-{nodes}.json"
    fresh = not folder.exists()
    if not fresh and notes.is_file():
        stages |= json.loads(notes.read_text(encoding="utf-8"))
    start = time.perf_counter()
    watch.on_stage_start("generation", 1, "steps")
    resolved.dataset.load(0)
    watch.on_stage_end("generation", time.perf_counter() - start, True)
    with progress_for(Console(stderr=True)) as progress:
        result = Distiller.from_config(resolved, callbacks=(watch, progress)).fit(out=folder)
    start = time.perf_counter()
    watch.on_stage_start("save", 1, "steps")
    result.save(folder)
    watch.on_stage_end("save", time.perf_counter() - start, True)
    forms = result.task.graph.formats()["created"]
    assert forms == ["csc"], f"DGL made the forms {forms} of the graph"
    return {
        "nodes": nodes,
        "undirected_edges": result.task.graph.num_edges() // 2,
        "stages": stages,
        "peak": max(found["peak"] for found in stages.values()),
        "seconds": round(sum(found.get("seconds", 0.0) for found in stages.values()), 1),
        "processor": round(sum(found.get("processor", 0.0) for found in stages.values()), 1),
        "resumed": not fresh,
        "metrics": result.metrics,
    }


def by_epoch(run: Mapping[str, Any], stage: str) -> float:
    """Return the median time of a stage's epochs in seconds."""
    return median(run["stages"][stage]["steps"])


def tables(runs: Mapping[str, Any]) -> str:
    """Return tables of wall time, with CPU time in parentheses, and of memory, by stage and size."""
    ordered = sorted(runs.values(), key=lambda run: run["nodes"])
    names = ["generation", *STAGES]
    head = "| | " + " | ".join(f"{run['nodes']:,}" for run in ordered) + " |\n|---|" + "---|" * len(ordered)

    def row(title: str, values: list[str]) -> str:
        return f"| {title} | " + " | ".join(values) + " |"

    seconds = [row("undirected edges", [f"{run['undirected_edges']:,}" for run in ordered])]
    for name in names:
        found = [run["stages"][name] for run in ordered]
        seconds.append(row(name, [f"{stage['seconds']:.1f} ({stage['processor']:.1f})" for stage in found]))
        if name in OF_AN_EPOCH:
            seconds.append(row(f"{name}, per epoch", [f"{by_epoch(run, name):.2f}" for run in ordered]))
    seconds.append(row("all", [f"{run['seconds']:.0f} ({run['processor']:.0f})" for run in ordered]))
    both = [[1e6 * run[kind] / run["nodes"] for kind in ("seconds", "processor")] for run in ordered]
    seconds.append(row("all, µs per node", [f"{wall:.0f} ({processor:.0f})" for wall, processor in both]))
    memories = [row(f"{name}, GB", [f"{run['stages'][name]['peak']:.2f}" for run in ordered]) for name in names]
    memories.append(row("peak, GB", [f"{run['peak']:.2f}" for run in ordered]))
    rate, base = np.polyfit([run["nodes"] / 1e6 for run in ordered], [run["peak"] for run in ordered], 1)
    line = f"Peak by least squares: {base:.2f} GB, and {rate:.2f} GB for every million nodes."
    return "\n".join([head, *seconds, "", head, *memories, "", line])


def plot(runs: Mapping[str, Any], path: Path) -> None:
    """Plot time and memory against the number of nodes on logarithmic axes, with lines of slope 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ordered = sorted(runs.values(), key=lambda run: run["nodes"])
    nodes = [run["nodes"] for run in ordered]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    for name in STAGES:
        used = [run["stages"][name]["processor"] for run in ordered]
        left.plot(nodes, used, marker="o", markersize=4, label=name)
    total = [run["processor"] for run in ordered]
    left.plot(nodes, total, color="black", linewidth=2, marker="o", label="all")
    wall = [run["seconds"] for run in ordered]
    left.plot(nodes, wall, color="black", linewidth=1, linestyle=":", marker="s", markersize=4, label="all, wall time")
    peaks = [run["peak"] for run in ordered]
    right.plot(nodes, peaks, color="black", linewidth=2, marker="o", label="peak of the run")
    # Libraries and batches take constant memory, so the fitted line does not pass through the origin.
    rate, base = np.polyfit(nodes, peaks, 1)
    every = np.geomspace(nodes[0], nodes[-1], 50)
    label = f"{base:.2f} GB + {1e6 * rate:.2f} GB per million nodes"
    right.plot(every, base + rate * every, color="tab:blue", linewidth=1, label=label)
    right.axhline(12, color="tab:red", linestyle=":", label="12 GB")
    for axes, last in ((left, total[-1]), (right, peaks[-1])):
        guide = [last * count / nodes[-1] for count in nodes]
        axes.plot(nodes, guide, color="gray", linestyle="--", linewidth=1, label="slope 1")
        axes.set_ylim(bottom=0.02 if axes is left else 0.3)
        axes.set(xscale="log", yscale="log", xlabel="nodes")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small", loc="upper left")
    left.set(ylabel="CPU time (s)", title="Time of each stage")
    right.set(ylabel="memory (GB)", title="Peak resident memory")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scale.json"), help="JSON file of the results")
    parser.add_argument("--work", type=Path, default=Path("runs/scale"), help="folder for graphs and checkpoints")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of nodes")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of teacher and student; the student has one more")
    parser.add_argument("--noise-samples", type=int, default=1, help="noise samples of KRD")
    parser.add_argument("--plot", type=Path, help="file of the plot, .png or .svg")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        found = measure(given.sizes[0], given.epochs, given.noise_samples, given.work.resolve())
        given.one.write_text(json.dumps(found), encoding="utf-8")
        return
    content = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {"runs": {}}
    given.work.mkdir(parents=True, exist_ok=True)
    for nodes in given.sizes:
        if str(nodes) in content["runs"]:
            continue
        answer = given.work / f"{nodes}.json"
        command = [sys.executable, __file__, "--sizes", str(nodes), "--one", str(answer), "--work", str(given.work)]
        command += ["--epochs", str(given.epochs), "--noise-samples", str(given.noise_samples)]
        subprocess.run(command, check=True)
        content["runs"][str(nodes)] = json.loads(answer.read_text(encoding="utf-8"))
        content["machine"] = machine()
        given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(tables(content["runs"]))
    if given.plot is not None:
        plot(content["runs"], given.plot)


if __name__ == "__main__":
    main()

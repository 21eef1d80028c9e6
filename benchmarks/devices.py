"""The same runs on CPU and GPU: time of every stage, GPU memory, and accuracy.

    python benchmarks/devices.py --out devices.json

The graph is synthetic and has the size of ogbn-arxiv: 169,343 nodes, about 1.2 million edges, 128 features, 40 classes.
Teachers train on the full graph and on sampled neighbourhoods; the students are a perceptron and RbM, with KRD, on
DeepWalk vectors and diffused features. All models train for a fixed number of epochs. --methods adds published methods
on a graph in DGL_RBM_DATA, with early stopping. Prints Markdown tables; ratios are CPU time over GPU time. A small
untimed run on each device loads the libraries first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timing import write_json

from dgl_rbm import Distiller
from dgl_rbm.run.config import resolve_config

STAGES = ("teacher", "logits", "hidden states", "encoder", "regularizer", "student", "evaluation")


def shaped_like_arxiv(nodes: int, epochs: int) -> dict[str, dict[str, Any]]:
    """Return the configurations of the runs by title."""
    training = {"epochs": epochs, "patience": epochs}
    full = {"kind": "sage", "hidden_dim": 256, "num_layers": 3, "training": {**training, "sampler": "full"}}
    sampled = {
        **full,
        "training": {**training, "sampler": "neighbor", "fanouts": [5, 10, 15], "batch_size": 1024},
    }
    base = {
        "dataset": {
            "kind": "synthetic",
            "num_nodes": nodes,
            "num_features": 128,
            "num_classes": 40,
            "average_degree": 13.7,
            "split": "0.54/0.18/0.28",
        },
        "regularizer": {"kind": "krd", "noise_samples": 2},
        "training": training,
    }
    rbm = {"kind": "rbm", "pretrain_epochs": 5}
    return {
        "full-graph SAGE, DeepWalk, RbM": {**base, "teacher": full, "encoder": "deepwalk", "student": rbm},
        "sampled SAGE, diffusion, perceptron": {**base, "teacher": sampled, "encoder": "diffusion", "student": "mlp"},
    }


def measured(distiller: Distiller, device: str, shared: str | None = None) -> dict[str, Any]:
    """Run a distillation; return seconds by stage, the accuracy, and torch's peak memory on a GPU."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    metrics = distiller.fit(latency_of=(), shared=shared).metrics
    gigabytes = None if device == "cpu" else torch.cuda.max_memory_allocated() / 1e9
    return {
        "seconds": {name: metrics.seconds.get(name, 0.0) for name in STAGES},
        "accuracy": metrics.student.test_accuracy,
        "gigabytes": gigabytes,
    }


def stage_table(title: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the seconds of every stage by device, without stages that did not run."""
    devices = list(runs)
    lines = [f"{title}:", "", f"| stage | {' | '.join(f'{device}, s' for device in devices)} | ratio |"]
    lines += ["|---|" + "---|" * (len(devices) + 1)]
    seconds = {device: dict(run["seconds"]) for device, run in runs.items()}
    for found in seconds.values():
        found["all"] = sum(found.values())
    for stage in (*STAGES, "all"):
        values = [found[stage] for found in seconds.values()]
        if any(values):
            lines.append(row(stage, [f"{value:.2f}" for value in values], values))
    accuracies = " and ".join(f"{100 * run['accuracy']:.2f} % ({device})" for device, run in runs.items())
    return "\n".join([*lines, "", f"Test accuracy {accuracies}.", ""])


def row(title: str, cells: Sequence[str], values: Sequence[float]) -> str:
    """Return a row of a table; its last cell is the ratio of the first value to the last."""
    ratio = f"{values[0] / values[-1]:.1f}" if len(values) > 1 and values[-1] else ""
    return f"| {title} | {' | '.join(cells)} | {ratio} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--nodes", type=int, default=169_343)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of teacher and student")
    parser.add_argument("--methods", nargs="+", default=[], help="published methods, with the default recipe")
    parser.add_argument("--dataset", default="cpf-cora", help="graph of the methods")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    results: dict[str, Any] = {"runs": {}, "methods": {}}
    for device in options.devices:
        Distiller(training={"epochs": 3}, device=device).fit("digits", latency_of=())
    for title, config in shaped_like_arxiv(options.nodes, options.epochs).items():
        runs = {
            device: measured(Distiller.from_config(resolve_config({**config, "device": device})), device)
            for device in options.devices
        }
        results["runs"][title] = runs
        print(stage_table(title, runs), flush=True)
        write_json(options.out, results)
    if options.methods:
        heads = " | ".join(f"{device}, s | test accuracy" for device in options.devices)
        print(f"| method on {options.dataset} | {heads} | ratio |\n|---|{'---|' * (2 * len(options.devices) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.methods:
            runs = {}
            for device in options.devices:
                distiller = Distiller.from_method(name, dataset=options.dataset, recipe="default", device=device)
                # The teacher is trained once per device and is not counted.
                runs[device] = measured(distiller, device, shared=f"{folder}/{device}")
            results["methods"][name] = runs
            own = [run["seconds"]["student"] for run in runs.values()]
            cells = [
                f"{seconds:.2f} | {100 * run['accuracy']:.2f} %"
                for seconds, run in zip(own, runs.values(), strict=True)
            ]
            print(row(name, cells, own), flush=True)
            write_json(options.out, results)


if __name__ == "__main__":
    main()

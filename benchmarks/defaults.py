"""Compare candidate defaults on held-out validation nodes of several graphs, by their mean rank.

Each graph splits off more validation nodes than a run needs; `SELECTING` per class select epochs, and the rest, hidden
from everything else, compare the settings. No test label is read. Results are appended to a JSON-lines file, and a
second call continues it::

    DGL_RBM_DATA=path/to/data OMP_NUM_THREADS=1 python benchmarks/defaults.py students --out students.jsonl
    python benchmarks/defaults.py students --out students.jsonl --show
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from dgl_rbm.data.hold_out import hide_validation
from dgl_rbm.data.load import load_task
from dgl_rbm.evaluation.scores import student_inputs
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.tasks.multiclass import accuracy, predictions

SELECTING = 30
# Dataset and split; in the first group few nodes are labelled, in the second most of them.
GRAPHS = {
    "cpf-cora": ("cpf-cora", "20/100"),
    "amazon-photo": ("amazon-photo", "20/200"),
    "academic-cs": ("academic-cs", "20/90"),
    "digits": ("digits", "20/100"),
    "cpf-cora, 60 %": ("cpf-cora", "0.6/0.2/0.2"),
    "amazon-photo, 60 %": ("amazon-photo", "0.6/0.2/0.2"),
    "academic-cs, 60 %": ("academic-cs", "0.6/0.2/0.2"),
    "wordnet, 60 %": ("wordnet.npz", "0.6/0.2/0.2"),
}
L2 = {"optimizer": "adam", "lr": 0.01, "weight_decay": 5e-4, "patience": 50}


def adamw(lr: float, weight_decay: float, **options: Any) -> dict[str, Any]:
    """Return training options."""
    return {"optimizer": "adamw", "lr": lr, "weight_decay": weight_decay, **options}


def named(options: dict[str, Any]) -> str:
    """Return options in one line."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def residual(experts: int, top_k: int, rank: int) -> dict[str, Any]:
    """Return an RbM whose experts are residuals of a shared one."""
    return {"kind": "rbm", "shared_expert": True, "expert_rank": rank, "num_experts": experts, "top_k": top_k}


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "teachers": {
        named(options): {"teacher": {"kind": "sage", "training": options}}
        for options in (L2, *(adamw(lr, decay) for lr in (0.01, 0.003) for decay in (0.0, 0.003, 0.01, 0.03)))
    },
    "students": {
        f"{student}: {named(options)}": {"student": student, "encoder": "none", "training": options}
        for student in ("mlp", "rbm")
        for options in (L2, *(adamw(lr, decay) for lr in (0.01, 0.003, 0.001) for decay in (0.0, 0.003, 0.01)))
    },
    "encoders": {
        encoder: {"student": "mlp", "encoder": encoder}
        for encoder in ("none", "diffusion", "soft_labels", "label_propagation", "auto")
    },
    "rbm": {
        "mlp": {"student": "mlp"},
        "rbm": {"student": "rbm"},
        "shared, full": {"student": {"kind": "rbm", "shared_expert": True}},
        "shared, 8 of rank 16": {"student": residual(8, 3, 16)},
        "shared, 32 of rank 16, top 8": {"student": residual(32, 8, 16)},
    },
}


def held_out_accuracy(values: dict[str, Any], split: str, shared: Path) -> dict[str, Any]:
    """Run the stages that `values` needs; return the accuracies on both parts of the validation nodes, and seconds."""
    config = resolve_config(values)
    task = load_task(config.dataset, config.setting, config.seed)
    of_class = split.rpartition("/")[2]
    share = 0.5 if "." in split else 1 - SELECTING / int(of_class)
    task = hide_validation(task, share, config.seed)
    held_out = task.test_labels()
    start = time.perf_counter()
    pipeline = Pipeline(task, config, run_context(config, shared=shared))
    if "student" not in values:
        logits = pipeline._teacher_logits(pipeline.teacher())
        found = accuracy(predictions(logits[task.test_idx]), held_out)
        return {"hidden": found, "seconds": time.perf_counter() - start}
    pipeline.teacher()
    of_teacher = time.perf_counter() - start
    encodings = pipeline.encodings().encodings
    trained = pipeline.student()
    logits = trained.student.logits(student_inputs(encodings, task, task.test_idx))
    return {
        "hidden": accuracy(predictions(logits), held_out),
        "validation": trained.record.val_accuracy,
        "best_epoch": trained.record.best_epoch,
        "active_parameters": trained.record.active_parameters,
        "chosen": [candidate.kind for candidate in pipeline.encodings().candidates],
        "seconds": time.perf_counter() - start - of_teacher,
    }


def runs(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the name of each run, as a mapping, and its configuration."""
    for seed in args.seeds:
        for graph in args.graphs:
            kind, split = GRAPHS[graph]
            dataset: Any = {"kind": kind, "split": split}
            if kind.endswith(".npz"):
                path = Path(os.environ["DGL_RBM_DATA"]) / "graphs" / kind
                dataset = {"kind": "npz", "path": str(path), "split": split}
            for name, values in SETTINGS[args.what].items():
                spec = {"graph": graph, "setting": args.setting, "seed": seed, "name": name}
                yield spec, {"dataset": dataset, "setting": args.setting, "seed": seed, "device": "cpu", **values}


def show(path: Path) -> None:
    """Print the mean accuracy of each setting on each graph, and its mean rank over the graphs."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, list[float]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        found[f"{entry['graph']}, {entry['setting']}"][entry["name"]].append(entry["hidden"])
        seconds[entry["name"]].append(entry["seconds"])
    ranks: dict[str, list[int]] = defaultdict(list)
    for of_graph in found.values():
        order = sorted(of_graph, key=lambda name: -mean(of_graph[name]))
        for rank, name in enumerate(order, start=1):
            ranks[name].append(rank)
    print("|", " | ".join(["setting", *found, "mean rank", "seconds"]), "|")
    print("|" + "---|" * (len(found) + 3))
    for name in sorted(ranks, key=lambda name: mean(ranks[name])):
        cells = [f"{100 * mean(of_graph[name]):.1f}" if name in of_graph else "–" for of_graph in found.values()]
        print("|", " | ".join([name, *cells, f"{mean(ranks[name]):.2f}", f"{mean(seconds[name]):.0f}"]), "|")


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=SETTINGS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", default="transductive", choices=("transductive", "inductive"))
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101])
    parser.add_argument("--show", action="store_true", help="print the table of finished runs")
    args = parser.parse_args()
    if args.show:
        show(args.out)
        return
    keys = ("graph", "setting", "seed", "name")
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    finished = {tuple(entry[key] for key in keys) for entry in done}
    for spec, values in runs(args):
        if tuple(spec[key] for key in keys) in finished:
            continue
        split = values["dataset"]["split"]
        result = spec | held_out_accuracy(values, split, args.out.with_suffix(".shared"))
        with args.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")
        print(result, flush=True)


if __name__ == "__main__":
    main()

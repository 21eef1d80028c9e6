"""Compare ways to improve the predictions of unseen nodes from features alone, on hidden validation nodes.

    DGL_RBM_DATA=... python benchmarks/unseen_without_fetch.py unseen.jsonl --seeds 100-105 --graphs cpf-cora digits
    python benchmarks/unseen_without_fetch.py unseen.jsonl --table

Inductive setting, no encoder. All graphs have 20 training nodes per class; about 30 validation nodes per class choose
the epoch, and the other validation nodes are hidden with their edges and judge the result. No test label is read.
Every run is a line of the output file; runs that the file contains are skipped. The losses that the package does not
offer, because they did not win, are in `unseen_losses.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from unseen_losses import Aligned, MaskedTeacher, Mixup, Ready, TeacherStart, Weighted

from dgl_rbm.data.hold_out import hide_validation
from dgl_rbm.data.load import load_task
from dgl_rbm.data.task import NodeTask
from dgl_rbm.experiments.options import as_seeds
from dgl_rbm.run.config import CustomConfig, resolve_config
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.specs import resolve_dataset

# Training and validation nodes per class, and the share of the latter that is hidden.
GRAPHS = {
    "cpf-cora": ("20/100", 0.7),
    "amazon-photo": ("20/200", 0.85),
    "academic-cs": ("20/90", 2 / 3),
    "digits": ("20/100", 0.7),
}
STUDENTS = ("mlp", "rbm")
# The teachers of the method `mlp-features`.
THREE = {
    "kind": "average",
    "weights": "validation",
    "members": ["sage", "appnp", {"kind": "appnp", "training": {"weight_decay": 5e-3}}],
}
# Options that differ from the plain run, `REFERENCE`; "term" makes one of the losses.
REFERENCE = "plain"
VARIANTS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "learning rate 0.01": {"training": {"lr": 0.01}},
    "learning rate 0.001": {"training": {"lr": 0.001}},
    "weight decay 0": {"training": {"weight_decay": 0.0}},
    "weight decay 0.002": {"training": {"weight_decay": 2e-3}},
    "dropout 0.5": {"student": {"dropout": 0.5}},
    "input dropout 0.1": {"training": {"input_dropout": 0.1}},
    "input dropout 0.3": {"training": {"input_dropout": 0.3}},
    "input dropout 0.5": {"training": {"input_dropout": 0.5}},
    "input dropout 0.3, dropout 0.5": {"student": {"dropout": 0.5}, "training": {"input_dropout": 0.3}},
    "three teachers": {"teacher": THREE},
    "three teachers, input dropout 0.3": {"teacher": THREE, "training": {"input_dropout": 0.3}},
    "krd": {"regularizer": "krd"},
    "mix-up with any node": {"term": lambda: Mixup(neighbors=False)},
    "mix-up with a neighbour": {"term": lambda: Mixup(neighbors=True)},
    "teacher on masked features": {"term": MaskedTeacher},
    "weights by agreement": {"term": lambda: Weighted("agreement")},
    "weights by disagreement": {"term": lambda: Weighted("disagreement")},
    "weights by curvature": {"term": lambda: Weighted("curvature")},
    "first layer of the teacher": {"term": TeacherStart},
    "aligned first layer": {"term": Aligned},
    "aligned first layer, input dropout 0.3": {"term": Aligned, "training": {"input_dropout": 0.3}},
}


def run(task: NodeTask, dataset: Any, seed: int, student: str, variant: str, shared: Path) -> dict[str, Any]:
    """Train one student and return its scores on the hidden validation nodes."""
    options = dict(VARIANTS[variant])
    term = options.pop("term", None)
    instance = None if term is None else Ready(term())
    config = resolve_config(
        {
            "dataset": dataset,
            "setting": "inductive",
            "seed": seed,
            "teacher": options.get("teacher", "sage"),
            "encoder": "none",
            "regularizer": options.get("regularizer", "none") if instance is None else [CustomConfig.of(instance)],
            "student": {"kind": student, **options.get("student", {})},
            "training": {"lr": 0.003, **options.get("training", {})},
            "device": "cpu",
        }
    )
    instances = {} if instance is None else {"regularizer 0": instance}
    pipeline = Pipeline(task, config, run_context(config, shared=shared), instances)
    record = pipeline.validate(task.test_labels())
    return {
        "hidden": record.val_accuracy,
        "loss": record.val_loss,
        "validation": pipeline.student().record.val_accuracy,
        "epoch": pipeline.student().fit.best_epoch,
    }


def table(path: Path) -> str:
    """Return a Markdown table per student: accuracy of the plain run, and the others' differences to it, in points.

    Differences are means ± standard errors over the seeds that both have, whose number follows in brackets.
    """
    runs = pd.DataFrame(map(json.loads, path.read_text().splitlines()))
    lines = []
    for student, of_student in runs.groupby("student"):
        graphs = list(dict.fromkeys(of_student["graph"]))
        lines += [f"| {student} | " + " | ".join(graphs) + " |", "|---" * (1 + len(graphs)) + "|"]
        for variant in (name for name in VARIANTS if name in set(of_student["variant"])):
            cells = [_cell(of_student[of_student["graph"] == graph], variant) for graph in graphs]
            lines.append(f"| {variant} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(runs: pd.DataFrame, variant: str) -> str:
    hidden = 100 * runs.pivot_table(index="seed", columns="variant", values="hidden")
    if variant == REFERENCE:
        return f"{hidden[variant].mean():.1f} ({len(hidden)})"
    gain = (hidden[variant] - hidden[REFERENCE]).dropna() if variant in hidden else ()
    if not len(gain):
        return ""
    return f"{gain.mean():+.1f}" + (f" ± {gain.sem():.1f}" if len(gain) > 1 else "") + f" ({len(gain)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file of JSON lines")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=as_seeds, default=as_seeds("100-102"))
    parser.add_argument("--table", action="store_true", help="print the table of the file and run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.out))
        return
    torch.set_num_threads(1)
    known = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    names = ("graph", "seed", "student", "variant")
    done = {tuple(run[name] for name in names) for run in map(json.loads, known)}
    for seed, graph in product(arguments.seeds, arguments.graphs):
        todo = [pair for pair in product(arguments.students, arguments.variants) if (graph, seed, *pair) not in done]
        if not todo:
            continue
        split, hide = GRAPHS[graph]
        dataset = resolve_dataset({"kind": graph, "split": split})
        task = hide_validation(load_task(dataset, "inductive", seed), hide, seed)
        for student, variant in todo:
            start = time.perf_counter()
            found = run(task, dataset, seed, student, variant, arguments.out.with_suffix(".shared"))
            line = dict(zip(names, (graph, seed, student, variant), strict=True)) | found
            with arguments.out.open("a") as file:
                file.write(json.dumps(line | {"seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()

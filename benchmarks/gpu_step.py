"""Time of a student's training step on a GPU: all experts at once against expert by expert, as on a CPU.

    python benchmarks/gpu_step.py

The table is random: 40,960 rows, 192 columns and 40 classes, with a teacher and expected KRD targets. Students have
three layers of width 256. Times are medians over epochs, each with validation and synchronised with the device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp
import torch

from dgl_rbm import Callback
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.layers import dispatch
from dgl_rbm.training.neighbor_targets import ExpectedNeighborTargets
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable

COLUMNS, CLASSES, DEGREE = 192, 40, 14
STUDENTS: dict[str, dict[str, Any]] = {"mlp": {}, "moe": {}, "rbm": {"pretrain_epochs": 2}}
# Untimed epochs: pre-training and the first routed ones.
_SKIPPED = 4


class Watch(Callback):
    """Record the end times of epochs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def make_table(rows: int, device: torch.device) -> tuple[DistillationTable, ExpectedNeighborTargets]:
    """Return a table of Gaussian noise around one unit vector per class, and neighbour targets."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    labels = torch.randint(CLASSES, (rows,))
    logits = 3 * torch.eye(CLASSES)[labels] + torch.randn(rows, CLASSES)
    ends = (draw.integers(rows, size=DEGREE * rows), draw.integers(rows, size=DEGREE * rows))
    linked = SparseRows.from_scipy(sp.csr_matrix((np.ones(DEGREE * rows), ends), shape=(rows, rows)))
    targets = ExpectedNeighborTargets(linked, logits.softmax(dim=1), torch.rand(rows))
    table = DistillationTable(
        inputs=(torch.randn(rows, COLUMNS) + torch.eye(COLUMNS)[labels]).to(device),
        labels=labels.to(device),
        train_idx=torch.arange(rows // 2, device=device),
        val_idx=torch.arange(rows // 2, rows // 2 + rows // 10, device=device),
        num_classes=CLASSES,
        teacher_logits=logits.to(device),
    )
    return table, targets.to(device)


def milliseconds(kind: str, rows: int, batch: int, device: torch.device, precision: str) -> float:
    """Return the median time of a step in milliseconds."""
    (table, targets), watch = make_table(rows, device), Watch(device)
    student = students.resolve({"kind": kind, **STUDENTS[kind]}).build(COLUMNS, CLASSES, hidden_dim=256, num_layers=3)
    training = StudentTraining(epochs=9, patience=9, batch_size=batch, precision=precision)
    context = RunContext(seed=0, device=device, callbacks=(watch,))
    fit_student(student.to(device), table, context, training, terms=[targets])
    ends = watch.ends[_SKIPPED:]
    return 1e3 * median(after - before for before, after in pairwise(ends)) / -(-rows // batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=40_960)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    options = parser.parse_args()
    device = torch.device(options.device)
    print("| student | rows per step | at once | expert by expert | ratio |\n|---|---|---|---|---|")
    for kind in STUDENTS:
        for batch in (options.rows // 10, options.rows):
            found = []
            for at_once in (True, False) if kind != "mlp" else (True,):
                with patch.object(dispatch, "_stacks_experts", lambda device, rows, shape, chosen=at_once: chosen):
                    found.append(milliseconds(kind, options.rows, batch, device, options.precision))
            cells = [f"{value:.1f} ms" for value in found] + ([f"{found[1] / found[0]:.2f}"] if found[1:] else ["", ""])
            print(f"| {kind} | {batch:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

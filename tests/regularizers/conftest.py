"""Tables, students and loss terms that the tests of regularizers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.training.objective import ObjectiveConfig, distillation_parts
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm, StudentLoss

CLASSES, ROWS = 3, 24
# Those that are trained as they are; `auto` trains some of them.
KINDS = ["ensemble", "mlp", "moe", "rbm"]
OBJECTIVE = ObjectiveConfig(hard_label_weight=0.4)


def make_table(*, teacher: bool = True, inputs: Rows | None = None) -> DistillationTable:
    """Return a table of three classes whose first rows are labelled: six for training, six for validation."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(ROWS) % CLASSES
    dense = torch.randn(ROWS, 5, generator=generator) + torch.eye(5)[labels]
    known = torch.full((ROWS,), -1)
    known[:12] = labels[:12]
    return DistillationTable(
        inputs=dense if inputs is None else inputs,
        labels=known,
        train_idx=torch.arange(6),
        val_idx=torch.arange(6, 12),
        num_classes=CLASSES,
        teacher_logits=torch.randn(ROWS, CLASSES, generator=generator) if teacher else None,
    )


def teacher_hidden() -> Tensor:
    """Return hidden states of the table's rows."""
    return torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(5))


def make_student(kind: str, **options: Any) -> Student:
    """Return a student without dropout, before any pre-training."""
    torch.manual_seed(0)
    config = students.resolve({"kind": kind, "dropout": 0.0, **options})
    student: Student = config.build(5, CLASSES, hidden_dim=6, num_layers=2)
    return student


def routed(kind: str, table: DistillationTable, **options: Any) -> Student:
    """Return a student without dropout, after any pre-training."""
    student = make_student(kind, **options)
    student.finish_pretraining(table.inputs)
    return student


def whole_loss(term: LossTerm | None, student: Student, table: DistillationTable) -> StudentLoss:
    """Return the loss of a student that is trained with this term, or with none."""
    return StudentLoss(OBJECTIVE, [] if term is None else [term], student, table)


def batch_of(student: Student, table: DistillationTable, rows: Tensor | None = None) -> Batch:
    """Return a batch of dense rows, of all by default."""
    rows = torch.arange(len(table)) if rows is None else rows
    assert isinstance(table.inputs, Tensor)
    return Batch(rows, table.inputs[rows], student.training_forward)


def base_loss(output: StudentOutput, table: DistillationTable, rows: Tensor) -> Tensor:
    """Return the loss on labels and on the teacher's predictions."""
    return torch.stack([*distillation_parts(output.heads, table, rows, OBJECTIVE).values()]).sum()


def penalties(output: StudentOutput) -> float:
    """Return the sum of a student's own penalties."""
    return sum(float(value.detach()) for value in output.penalties.values())

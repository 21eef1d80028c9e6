"""Candidates that are trained one after the other, of which validation keeps one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch.nn.functional import cross_entropy

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import TrainingError
from dgl_rbm.rows.sparse import take
from dgl_rbm.students.base import Student
from dgl_rbm.training.student import StudentFit
from dgl_rbm.training.table import DistillationTable

__all__ = ["choose", "validation_record"]

T = TypeVar("T")


def choose(
    candidates: Sequence[ComponentConfig],
    train: Callable[[int, ComponentConfig], tuple[T, dict[str, Any]]],
) -> tuple[int, T, list[dict[str, Any]]]:
    """Train every candidate and return the one of the best validation accuracy, of equal ones that of the lowest loss.

    The loss weighs less here than in the choice of an epoch: between models it tells more of how sure they are than of
    how right. One that reads the teacher's predictions has the lower loss where another is more often right.

    Parameters
    ----------
    candidates : sequence of ComponentConfig
        At least one.
    train : callable
        Gets a candidate's place and config; returns what it came to and its `validation_record`.

    Returns
    -------
    chosen : int
        Its place.
    outcome : object
        What it came to.
    records : list of dict
        Of all candidates in their order; ``val_accuracy`` is None and ``error`` says why where one cannot be trained.

    Raises
    ------
    TrainingError
        Where none can be trained: that of the last.
    """
    best: tuple[tuple[float, float], int, T] | None = None
    records: list[dict[str, Any]] = []
    for i, candidate in enumerate(candidates):
        try:
            outcome, record = train(i, candidate)
        except TrainingError as error:
            if i + 1 == len(candidates) and best is None:
                raise
            # The others may do well under options that this one cannot be trained with.
            records.append({"kind": candidate.kind, "val_accuracy": None, "error": error.message})
            continue
        records.append(record)
        rank = (record["val_accuracy"], -record["val_loss"])
        if best is None or rank > best[0]:
            best = (rank, i, outcome)
    assert best is not None
    return best[1], best[2], records


def validation_record(student: Student, fit: StudentFit, table: DistillationTable) -> dict[str, Any]:
    """Return what a candidate is judged by, and what it costs; the loss is the mean cross-entropy in nats."""
    labels = table.labels[table.val_idx]
    with torch.no_grad():
        loss = cross_entropy(student._logits(take(table.inputs, table.val_idx)), labels)
    return {
        "kind": student.kind,
        "val_accuracy": fit.val_accuracy,
        "val_loss": float(loss),
        "best_epoch": fit.best_epoch,
        "active_parameters": student.num_active_parameters(),
    }

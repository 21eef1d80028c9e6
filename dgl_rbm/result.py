"""What a run leaves behind, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.data.task import NodeTask
from dgl_rbm.encodings import Encodings
from dgl_rbm.errors import DataError
from dgl_rbm.evaluation.scores import student_inputs
from dgl_rbm.run_config import DistillConfig
from dgl_rbm.serving import Predictor
from dgl_rbm.sparse import Rows
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher

__all__ = ["DistillationResult"]


@dataclass(frozen=True, repr=False)
class DistillationResult:
    """A finished run.

    Attributes
    ----------
    config : DistillConfig
        The resolved configuration.
    task : NodeTask
        The graph that it ran on.
    teacher : Teacher
        Fitted.
    predictor : Predictor
        Student, encodings and feature normalisation: all that a prediction from raw features needs. The
        features of `task` are normalised already; `inputs` makes student inputs of them.
    metrics : dict
        What ``metrics.json`` holds.
    history : list of dict
        One entry per epoch of each stage.
    teacher_logits, student_logits : Tensor
        Of all nodes, float32 ``[N, C]``; the teacher's ``[N, 0]`` where there is none.
    """

    config: DistillConfig
    task: NodeTask
    teacher: Teacher
    predictor: Predictor
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    teacher_logits: Tensor
    student_logits: Tensor

    def __repr__(self) -> str:
        scored = [role for role in ("teacher", "student") if "test_accuracy" in self.metrics[role]]
        scores = (f"{role} {100 * self.metrics[role]['test_accuracy']:.2f} %" for role in scored)
        what = f"{self.metrics['student']['kind']} from {self.metrics['teacher']['kind']} on {self.task.name}"
        return f"DistillationResult({what}, {self.task.setting}: test accuracy {', '.join(scores)})"

    @property
    def student(self) -> Student:
        """The trained student, on the CPU; reads rows of features beside encodings."""
        return self.predictor.student

    @property
    def encodings(self) -> Encodings:
        """The structural encodings of the observed nodes."""
        return self.predictor.encodings

    def inputs(self, node_ids: Sequence[int] | Tensor) -> Rows:
        """Return what the student reads of some nodes of the graph that the run was made from.

        For raw features of nodes that are not in it, see `Predictor.inputs`.

        Parameters
        ----------
        node_ids : sequence of int or Tensor
            Ids in that graph, observed or unseen, int64 ``[B]``.

        Returns
        -------
        Tensor or SparseRows
            float32 ``[B, F + P]``.
        """
        ids = torch.as_tensor(node_ids, dtype=torch.int64)
        count = self.task.graph.num_nodes()
        wrong = ids[(ids < 0) | (ids >= count)]
        if len(wrong):
            raise DataError(f"There are no nodes {wrong[:5].tolist()}; the graph has ids 0 to {count - 1}.")
        return student_inputs(self.encodings, self.task, ids)

    def save(self, folder: str | Path) -> Path:
        """Write the run to a folder, file by file and each one atomically; see `dgl_rbm.artifacts`."""
        from dgl_rbm.artifacts import save_run

        return save_run(self, Path(folder))

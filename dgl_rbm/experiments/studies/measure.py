"""Sizes and times of untrained students, on the CPU, for the inputs that they would have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dgl_rbm.data.load import load_task
from dgl_rbm.data.task import GraphView, NodeTask
from dgl_rbm.evaluation.complexity import Complexity, column_shares, complexity
from dgl_rbm.evaluation.latency import student_server
from dgl_rbm.evaluation.timing import PredictionTime, interleaved_times
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.parts import sized_student, stages_of
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.run.stages import stage_key
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.teachers.resolve import as_teacher

__all__ = ["REPEATS", "Bench", "Measured", "measure_students"]

REPEATS = 200


@dataclass(frozen=True)
class Measured:
    """Cost of a student.

    Attributes
    ----------
    student : StudentConfig
        Its options, sizes included.
    complexity : Complexity
    time : PredictionTime
        With all that must be fetched for an unseen node; ratios are to the first student of those measured together.
    """

    student: StudentConfig
    complexity: Complexity
    time: PredictionTime


class Bench:
    """The graph that students are measured on, with its encodings.

    Parameters
    ----------
    config : DistillConfig
        Sets graph, setting and seed.
    shared : Path
        Folder of teachers and encodings that the study's runs share.
    """

    def __init__(self, config: DistillConfig, shared: Path) -> None:
        self.config, self.shared = config, shared
        self._encodings: dict[str, Encodings] = {}

    @cached_property
    def task(self) -> NodeTask:
        """The graph with labels and split."""
        return load_task(self.config.dataset, self.config.setting, self.config.seed)

    @cached_property
    def view(self) -> GraphView:
        """The whole graph."""
        return self.task.full()

    def encodings(self, config: DistillConfig) -> Encodings:
        """Return the encodings that students of `config` read."""
        on_cpu = config.model_copy(update={"device": "cpu"})
        key = stage_key(stages_of(on_cpu).encodings, on_cpu, [])
        if key not in self._encodings:
            context = run_context(on_cpu, shared=self.shared)
            self._encodings[key] = Pipeline(self.task, on_cpu, context).encodings().encodings
        return self._encodings[key]

    def in_dim(self, config: DistillConfig) -> int:
        """Return F + P."""
        return self.task.features.shape[1] + self.encodings(config).dim

    def student_config(self, config: DistillConfig) -> StudentConfig:
        """Return the student's options with its sizes, which may come from the teacher."""
        with seeded(config.seed, "teacher-weights"):
            teacher = as_teacher(cast(Any, config.teacher), self.task.features.shape[1], self.task.num_classes)
        assert isinstance(config.student, StudentConfig)
        return sized_student(config.student, teacher, self.encodings(config).dim)

    def student(self, config: DistillConfig, shape: StudentConfig) -> Student:
        """Return a student that routes as a trained one does, with random weights: times do not depend on these."""
        with seeded(config.seed, "student-weights"):
            student = shape.build(self.in_dim(config), self.task.num_classes)
        student.skip_pretraining()
        return student.serve()

    def complexity(self, config: DistillConfig, student: Student) -> Complexity:
        """Return a student's size and work for a row of this graph."""
        encoded = torch.ones(self.encodings(config).dim, dtype=torch.float64)
        return complexity(student, shares=torch.cat([column_shares(self.task.features), encoded]))

    def server(self, config: DistillConfig, student: Student) -> Callable[[Tensor], Tensor]:
        """Return what answers requests for nodes as if they were unseen: fetches, averages and predicts."""
        return student_server(student, self.encodings(config), self.view)


def measure_students(bench: Bench, configs: Mapping[str, DistillConfig]) -> dict[str, Measured]:
    """Measure students side by side, by `REPEATS` requests for one node and a tenth as many for 1,024.

    Parameters
    ----------
    bench : Bench
        All are measured on its graph.
    configs : mapping of str to DistillConfig
        By name.
    """
    shapes = {name: bench.student_config(config) for name, config in configs.items()}
    students = {name: bench.student(config, shapes[name]) for name, config in configs.items()}
    servers = {name: bench.server(config, students[name]) for name, config in configs.items()}
    times = interleaved_times(servers, len(bench.view), repeats=REPEATS)
    return {
        name: Measured(shapes[name], bench.complexity(config, students[name]), times[name])
        for name, config in configs.items()
    }

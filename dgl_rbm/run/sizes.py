"""Check, before anything is trained, that teacher and student fit into memory with what training keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from dgl_rbm.errors import ConfigError
from dgl_rbm.evaluation.complexity import skeleton
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.runtime.environment import memory_bytes
from dgl_rbm.students.base import StudentConfig

__all__ = ["check_sizes"]

# In training, in float32: a weight, its gradient, Adam's two moments, and the weight of the best epoch.
_BYTES_PER_PARAMETER = 20
_BYTES_PER_AVERAGE = 4


def check_sizes(config: DistillConfig, in_dim: int = 1, num_classes: int = 2) -> None:
    """Raise an error if the teacher or a student cannot be trained in this machine's memory.

    Counted are weights, gradients, the optimiser's moments, the weights of the best epoch and a student's averaged
    weights; hidden states are not, nor is the graph.

    Parameters
    ----------
    config : DistillConfig
        Resolved.
    in_dim, num_classes : int
        Those of the graph, or lower bounds if it has not been loaded; encodings are not counted.

    Raises
    ------
    ConfigError
        Naming each component that is too large, its size and the limit.
    """
    limit = memory_bytes()
    if limit is None:
        return
    problems = []
    for name, size, count in _counts(config, in_dim, num_classes):
        try:
            parameters: int | None = count()
        except ConfigError:
            # Students that need encodings, whose number is unknown until they are computed.
            continue
        except RuntimeError:
            # Sizes whose product overflows.
            parameters = None
        if parameters is None or parameters * size > limit:
            number = "more than 2⁶³" if parameters is None else f"at least {parameters:,}"
            problems.append(f"{name}: it has {number} parameters, and training needs {size} bytes for each.")
    if problems:
        raise ConfigError(
            "\n".join([*problems, f"This machine has {limit / 2**30:,.1f} GiB of memory."]),
            hint="Lower hidden_dim, width_factor, num_layers or num_experts.",
        )


def _counts(config: DistillConfig, in_dim: int, num_classes: int) -> Iterator[tuple[str, int, Callable[[], int]]]:
    """Yield the name of each component, its bytes per parameter and the function that counts its parameters."""
    teacher = config.teacher
    for i, member in enumerate(getattr(teacher, "members", [teacher])):
        name = f"teacher -> members {i}" if hasattr(teacher, "members") else "teacher"
        if hasattr(member, "hidden_dim"):
            yield name, _BYTES_PER_PARAMETER, partial(_teacher_parameters, member, in_dim, num_classes)
    width = getattr(teacher, "hidden_dim", None) or DEFAULT_WIDTH
    depth = getattr(teacher, "num_layers", None) or DEFAULT_DEPTH
    student = config.student
    size = _BYTES_PER_PARAMETER + (_BYTES_PER_AVERAGE if config.training.averaging else 0)
    for i, candidate in enumerate(getattr(student, "candidates", [student])):
        name = f"student -> candidates {i}" if hasattr(student, "candidates") else "student"
        if isinstance(candidate, StudentConfig):
            yield name, size, partial(_student_parameters, candidate, in_dim, num_classes, width, depth)


def _student_parameters(config: StudentConfig, in_dim: int, num_classes: int, width: int, depth: int) -> int:
    return skeleton(config, in_dim, num_classes, hidden_dim=width, num_layers=depth).num_parameters()


def _teacher_parameters(config: Any, in_dim: int, num_classes: int) -> int:
    with torch.device("meta"):
        return int(config.build(in_dim, num_classes).num_parameters())

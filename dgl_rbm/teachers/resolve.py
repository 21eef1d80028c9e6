"""From whatever names a teacher to the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from dgl_rbm.registry import teachers
from dgl_rbm.teachers.base import Teacher, TeacherConfig
from dgl_rbm.teachers.training import GNNTeacher

__all__ = ["as_teacher"]


def as_teacher(
    spec: str | Mapping[str, Any] | TeacherConfig | Teacher | nn.Module, in_dim: int, num_classes: int
) -> Teacher:
    """Return the teacher that `spec` stands for.

    Parameters
    ----------
    spec : str, mapping, TeacherConfig, Teacher or nn.Module
        A name, options with ``kind``, a config, a teacher, or a module that is called as
        ``module(graph, x)`` and is trained as `TeacherTraining` has it by default.
    in_dim, num_classes : int
        F and C.

    Raises
    ------
    ConfigError
        Where it stands for none.
    """
    if isinstance(spec, Teacher):
        return spec
    if isinstance(spec, nn.Module):
        return GNNTeacher(spec, num_classes)
    return teachers.resolve(spec).build(in_dim, num_classes)

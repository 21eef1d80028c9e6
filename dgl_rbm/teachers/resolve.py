"""Resolution of names, configs, modules and lists to a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dgl_rbm.specs import resolve_teacher
from dgl_rbm.teachers.average import AverageTeacher
from dgl_rbm.teachers.base import Teacher, TeacherConfig
from dgl_rbm.teachers.training import GNNTeacher

__all__ = ["as_teacher"]


def as_teacher(
    spec: str | Mapping[str, Any] | TeacherConfig | Teacher | nn.Module | Sequence[Any], in_dim: int, num_classes: int
) -> Teacher:
    """Return the teacher that `spec` describes.

    Parameters
    ----------
    spec : str, mapping, TeacherConfig, Teacher, nn.Module, or a list of these
        A name, options with ``kind``, a config, a teacher, or a module that is called as ``module(graph, x)`` and
        trained with the default `TeacherTraining`. The probabilities of several teachers, given as a list or as names
        joined by ``+``, are averaged.
    in_dim, num_classes : int
        F and C.

    Raises
    ------
    ConfigError
        If `spec` describes no teacher.
    """
    if isinstance(spec, (list, tuple)) and len(spec) > 1:
        return AverageTeacher([as_teacher(part, in_dim, num_classes) for part in spec])
    spec = spec[0] if isinstance(spec, (list, tuple)) and spec else spec
    if isinstance(spec, Teacher):
        return spec
    if isinstance(spec, nn.Module):
        return GNNTeacher(spec, num_classes)
    return resolve_teacher(spec).build(in_dim, num_classes)  # type: ignore[attr-defined, no-any-return]

"""What a student costs: total and active parameters, and multiply-adds; times are in `dgl_rbm.evaluation.timing`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn

from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.students.ensemble import Ensemble
from dgl_rbm.students.layers.mixture import MixtureLayer
from dgl_rbm.students.layers.routing import LearnedRouter, MemoryRouter
from dgl_rbm.students.mixture import MixtureStudent
from dgl_rbm.students.mlp import MLP

__all__ = [
    "Complexity",
    "complexity",
    "entries_per_column",
    "multiply_adds",
    "products_of",
    "skeleton",
    "width_for_active_parameters",
]

_WIDEST = 2**16


@dataclass(frozen=True)
class Complexity:
    """Size of a student, and the work of one prediction.

    Attributes
    ----------
    parameters, active_parameters : int
        All that a prediction may use, memories included, and those that the prediction of one row does use.
    multiply_adds : float
        What `multiply_adds` returns.
    """

    parameters: int
    active_parameters: int
    multiply_adds: float


@singledispatch
def products_of(module: nn.Module, columns: Tensor) -> float:
    """Return the multiply-adds of a student's or a layer's matrix products for one row.

    A rule for a class of your own is added by ``@products_of.register``.

    Parameters
    ----------
    module : nn.Module
        A student, or one of its layers.
    columns : Tensor
        Share of the rows in which each column is multiplied: one, or of sparse rows the share in which it is stored,
        float64 ``[D]``.

    Raises
    ------
    ConfigError
        Where there is no rule for the class.
    """
    raise ConfigError(
        f"There is no rule for the multiply-adds of '{type(module).__qualname__}'.",
        hint="Add one with @dgl_rbm.evaluation.complexity.products_of.register.",
    )


@products_of.register
def _(module: nn.Linear, columns: Tensor) -> float:
    return float(columns.sum()) * module.out_features


@products_of.register
def _(module: MLP, columns: Tensor) -> float:
    total = 0.0
    for layer in cast("list[nn.Linear]", list(module.layers)):
        total += products_of(layer, columns)
        columns = _dense(layer.out_features)
    return total


@products_of.register
def _(module: Ensemble, columns: Tensor) -> float:
    return sum(products_of(member, columns) for member in module.members)


@products_of.register
def _(module: MemoryRouter, columns: Tensor) -> float:
    return _read(columns, module.columns) * len(module.memory.vectors)


@products_of.register
def _(module: LearnedRouter, columns: Tensor) -> float:
    return products_of(module.projection, columns) + module.embeddings.numel()


@products_of.register
def _(module: MixtureLayer, columns: Tensor) -> float:
    active = min(module.router.top_k, module.experts.num_experts)
    return products_of(module.router, columns) + active * _of_one_expert(module, columns)


@products_of.register
def _(module: MixtureStudent, columns: Tensor) -> float:
    total = 0.0
    for layer in cast("list[MixtureLayer]", list(module.layers)):
        total += _of_one_expert(layer, columns) if module.pretraining else products_of(layer, columns)
        columns = _dense(layer.experts.bias.shape[1])
    return total


def _of_one_expert(layer: MixtureLayer, columns: Tensor) -> float:
    return _read(columns, layer.columns) * layer.experts.bias.shape[1]


def _read(columns: Tensor, part: slice | None) -> float:
    """Return how many entries of a row are multiplied by what reads `part` of its columns, all of them for None."""
    return float(columns[slice(None) if part is None else part].sum())


def _dense(width: int) -> Tensor:
    return torch.ones(width, dtype=torch.float64)


def multiply_adds(student: Student, *, entries: Tensor | None = None) -> float:
    """Return the multiply-adds of the prediction of one row: those of all products of a row with a matrix.

    These are the products with weights, of routers also those with the experts' embeddings. What is linear in a layer's
    width alone is left out: biases, norms, activations, gates, and the experts' input attention, which a student that
    serves has multiplied into its weights. See Table 9 of the RbM paper.

    Parameters
    ----------
    student : Student
        In the phase that is to be counted: before the end of pre-training a mixture passes rows through one expert.
    entries : Tensor, optional
        Share of the rows in which each input column is multiplied, float ``[F + P]``, as `entries_per_column` counts
        it; one of each by default.

    Raises
    ------
    ConfigError
        Where the student is of a class without a rule.
    """
    return products_of(student, _dense(student.in_dim) if entries is None else entries.double())


def entries_per_column(rows: Rows) -> Tensor:
    """Return the share of rows in which each column is multiplied: one, or where sparse rows store it.

    Parameters
    ----------
    rows : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.

    Returns
    -------
    Tensor
        float64 ``[D]``, on the CPU; its sum is the mean number of entries of a row.
    """
    if isinstance(rows, StackedRows):
        return torch.cat([entries_per_column(part) for part in rows.parts])
    if isinstance(rows, SparseRows):
        stored = torch.bincount(rows.csr.col_indices().cpu(), minlength=rows.shape[1])
        return stored.double() / max(1, len(rows))
    return _dense(rows.shape[1])


def complexity(student: Student, *, entries: Tensor | None = None) -> Complexity:
    """Return the size of a student and its work for one row; `entries` as for `multiply_adds`."""
    return Complexity(
        student.num_parameters(), student.num_active_parameters(), multiply_adds(student, entries=entries)
    )


def skeleton(
    config: StudentConfig,
    in_dim: int,
    num_classes: int,
    *,
    hidden_dim: int = DEFAULT_WIDTH,
    num_layers: int = DEFAULT_DEPTH,
) -> Student:
    """Return a student of this shape without memory for its weights, past its pre-training, to be counted.

    Where the end of pre-training chooses the number of experts, it has the most there may be.

    Parameters
    ----------
    config : StudentConfig
        Options.
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers : int
        Used where the config leaves them null.
    """
    with torch.device("meta"):
        student = config.build(in_dim, num_classes, hidden_dim=hidden_dim, num_layers=num_layers)
    if isinstance(student, MixtureStudent):
        # Not the one on the meta device, which has no value to be asked for.
        student.routed = torch.tensor(True)
    return student


def width_for_active_parameters(
    config: StudentConfig, in_dim: int, num_classes: int, active_parameters: int, *, num_layers: int = DEFAULT_DEPTH
) -> int:
    """Return the hidden width at which a student has nearly this many active parameters.

    Parameters
    ----------
    config : StudentConfig
        Options; its `hidden_dim` and `width_factor` do not count.
    in_dim, num_classes : int
        F + P, and C.
    active_parameters : int
        The size wanted.
    num_layers : int
        Used where the config leaves it null.

    Returns
    -------
    int
        At least 1; of two widths as near the smaller one.
    """

    def size(width: int) -> int:
        shaped = config.model_copy(update={"hidden_dim": width, "width_factor": 1})
        return skeleton(shaped, in_dim, num_classes, num_layers=num_layers).num_active_parameters()

    low, high = 1, 2
    while high < _WIDEST and size(high) < active_parameters:
        low, high = high, 2 * high
    # size(low) is below what is wanted, or low is 1; size(high) is not below it.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < active_parameters else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - active_parameters))

"""Parameters, active parameters and multiply-adds of students; `dgl_rbm.evaluation.timing` measures times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.base import Student, StudentConfig

__all__ = [
    "Complexity",
    "column_shares",
    "complexity",
    "multiply_adds",
    "skeleton",
    "width_for_active_parameters",
]

_WIDEST = 2**16


@dataclass(frozen=True)
class Complexity:
    """Number of parameters of a student and multiply-adds of one prediction.

    Attributes
    ----------
    parameters, active_parameters : int
        Parameters available to a prediction, memories included, and those that the prediction of a single row uses.
    multiply_adds : float
        Multiply-adds of a single row; see the function `multiply_adds`.
    """

    parameters: int
    active_parameters: int
    multiply_adds: float


def _dense(width: int) -> Tensor:
    return torch.ones(width, dtype=torch.float64)


def multiply_adds(student: Student, *, shares: Tensor | None = None) -> float:
    """Return the multiply-adds of predicting one row, as in Table 9 of the RbM paper.

    Counts products of a row with a weight matrix and, for routers, with the expert embeddings. Ignores all terms that
    are linear in the width of a layer: biases, norms, activations, gates, and the experts' input attention, which
    serving students fold into their weights.

    Parameters
    ----------
    student : Student
        Counted in its current phase: during pre-training a mixture passes every row through one expert.
    shares : Tensor, optional
        Share of the rows in which each input column is multiplied, float ``[F + P]``, as returned by
        `column_shares`; 1 for every column by default.

    Raises
    ------
    ConfigError
        If the student's class does not count them.
    """
    return student.multiply_adds(_dense(student.in_dim) if shares is None else shares.double())


def column_shares(rows: Rows) -> Tensor:
    """Return the share of rows in which each column is multiplied: 1 if dense, the share of stored entries if sparse.

    Parameters
    ----------
    rows : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.

    Returns
    -------
    Tensor
        float64 ``[D]``, on the CPU; the sum is the mean number of entries per row.
    """
    if isinstance(rows, StackedRows):
        return torch.cat([column_shares(part) for part in rows.parts])
    if isinstance(rows, SparseRows):
        stored = torch.bincount(rows.csr.col_indices().cpu(), minlength=rows.shape[1])
        return stored.double() / max(1, len(rows))
    return _dense(rows.shape[1])


def complexity(student: Student, *, shares: Tensor | None = None) -> Complexity:
    """Return parameter counts and multiply-adds of a student; `shares` as for `multiply_adds`."""
    return Complexity(student.num_parameters(), student.num_active_parameters(), multiply_adds(student, shares=shares))


def skeleton(
    config: StudentConfig,
    in_dim: int,
    num_classes: int,
    *,
    hidden_dim: int = DEFAULT_WIDTH,
    num_layers: int = DEFAULT_DEPTH,
) -> Student:
    """Build a student on the meta device, after its pre-training, to count its parameters without allocating them.

    If the end of pre-training chooses the number of experts, the student has the largest possible number.

    Parameters
    ----------
    config : StudentConfig
        Options of the student.
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers : int
        Defaults for options that are null in `config`.
    """
    with torch.device("meta"):
        student = config.build(in_dim, num_classes, hidden_dim=hidden_dim, num_layers=num_layers)
    student.skip_pretraining()
    return student


def width_for_active_parameters(
    config: StudentConfig, in_dim: int, num_classes: int, active_parameters: int, *, num_layers: int = DEFAULT_DEPTH
) -> int:
    """Return the hidden width whose number of active parameters is closest to a target.

    Parameters
    ----------
    config : StudentConfig
        Options of the student; `hidden_dim` and `width_factor` are ignored.
    in_dim, num_classes : int
        F + P, and C.
    active_parameters : int
        Target.
    num_layers : int
        Default if the depth is null in `config`.

    Returns
    -------
    int
        At least 1; ties go to the smaller width.
    """

    def size(width: int) -> int:
        shaped = config.model_copy(update={"hidden_dim": width, "width_factor": 1})
        return skeleton(shaped, in_dim, num_classes, num_layers=num_layers).num_active_parameters()

    low, high = 1, 2
    while high < _WIDEST and size(high) < active_parameters:
        low, high = high, 2 * high
    # Invariant: size(low) is below the target or low is 1; size(high) reaches the target.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < active_parameters else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - active_parameters))

"""Rows of features that are mostly zeros, kept so from the file to the student's first layer."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dgl_rbm.errors import DataError

__all__ = [
    "Rows",
    "SparseRows",
    "as_rows",
    "hstack",
    "linear",
    "matmul",
    "norms",
    "rows_not_finite",
    "take",
    "transpose_matmul",
]

# Below this share of non-zeros a sparse product beats a dense one on CPUs; docs/concepts says how it was measured.
SPARSE_BELOW_DENSITY = 0.08


class SparseRows:
    """A constant float32 matrix in CSR form with the few products that training needs.

    A plain torch CSR tensor transposes itself anew in every backward pass, which costs several times the
    product; this class keeps the transpose, and can pick rows, which torch's cannot.

    Parameters
    ----------
    csr : Tensor
        Two-dimensional ``torch.sparse_csr`` float32 tensor, shape ``[N, F]``.
    """

    def __init__(self, csr: Tensor) -> None:
        if csr.layout != torch.sparse_csr or csr.dim() != 2:
            raise DataError(
                f"SparseRows takes a two-dimensional CSR tensor, got {csr.layout} of {csr.dim()} dimensions."
            )
        self.csr = csr
        self._transposed: Tensor | None = None

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseRows:
        """Build from any SciPy sparse matrix or array; duplicate entries are summed."""
        csr = sp.csr_matrix(matrix, dtype=np.float32)
        csr.sum_duplicates()
        return cls(_csr_tensor(csr.indptr, csr.indices, csr.data, csr.shape))

    @property
    def shape(self) -> torch.Size:
        """``[N, F]``."""
        return self.csr.shape

    @property
    def device(self) -> torch.device:
        """Where the values lie."""
        return self.csr.device

    @property
    def density(self) -> float:
        """Share of entries that are stored."""
        return self.csr.values().numel() / max(1, self.shape[0] * self.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SparseRows(shape={tuple(self.shape)}, density={self.density:.2%})"

    def to(self, device: torch.device | str) -> SparseRows:
        """Return the same rows on `device`."""
        return self if torch.device(device) == self.device else SparseRows(self.csr.to(device))

    def to_scipy(self) -> sp.csr_matrix:
        """Return a SciPy CSR matrix that shares the values where they lie on the CPU."""
        csr = self.csr.cpu()
        parts = (csr.values().numpy(), csr.col_indices().numpy(), csr.crow_indices().numpy())
        return sp.csr_matrix(parts, shape=tuple(self.shape))

    def to_dense(self) -> Tensor:
        """Return an ordinary tensor, shape ``[N, F]``."""
        return self.csr.to_dense()

    def transposed(self) -> Tensor:
        """Return the transpose as a CSR tensor, shape ``[F, N]``; computed once, by SciPy, which is 5 times faster."""
        if self._transposed is None:
            flipped = self.to_scipy().T.tocsr()
            parts = (flipped.indptr, flipped.indices, flipped.data)
            self._transposed = _csr_tensor(*parts, flipped.shape).to(self.device)
        return self._transposed

    def take(self, index: Tensor) -> SparseRows:
        """Return the rows `index`, shape ``[len(index), F]``, in that order; rows may repeat."""
        pointers, columns, values = self.csr.crow_indices(), self.csr.col_indices(), self.csr.values()
        starts, lengths = pointers[index], pointers[index + 1] - pointers[index]
        new_pointers = torch.zeros(len(index) + 1, dtype=pointers.dtype, device=pointers.device)
        torch.cumsum(lengths, 0, out=new_pointers[1:])
        shift = torch.repeat_interleave(starts - new_pointers[:-1], lengths)
        picked = torch.arange(shift.numel(), device=shift.device) + shift
        return SparseRows(_csr_tensor(new_pointers, columns[picked], values[picked], (len(index), self.shape[1])))

    def norms(self) -> Tensor:
        """Return the Euclidean norm of each row, shape ``[N]``."""
        values, pointers = self.csr.values(), self.csr.crow_indices()
        row = torch.repeat_interleave(torch.arange(len(self), device=values.device), pointers.diff())
        return torch.zeros(len(self), dtype=values.dtype, device=values.device).index_add_(0, row, values**2).sqrt()


# Either form of a feature matrix [N, F].
Rows: TypeAlias = "Tensor | SparseRows"


def _csr_tensor(pointers: Any, columns: Any, values: Any, shape: tuple[int, ...]) -> Tensor:
    def as_tensor(part: Any, dtype: torch.dtype) -> Tensor:
        return part.to(dtype) if isinstance(part, Tensor) else torch.as_tensor(np.ascontiguousarray(part)).to(dtype)

    with warnings.catch_warnings():
        # torch calls its CSR support "beta" once a process; what is used of it here is tested.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            as_tensor(pointers, torch.int64),
            as_tensor(columns, torch.int64),
            as_tensor(values, torch.float32),
            size=tuple(shape),
        )


class _SparseMatmul(torch.autograd.Function):
    """``rows @ dense`` with a gradient for `dense` alone, through the kept transpose."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, rows: SparseRows) -> Tensor:
        ctx.rows = rows
        return rows.csr @ dense

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.rows.transposed() @ gradient, None


def matmul(rows: Rows, dense: Tensor) -> Tensor:
    """Return ``rows @ dense``, shape ``[N, M]``; gradients flow to `dense`, and to `rows` where dense."""
    if isinstance(rows, SparseRows):
        return _SparseMatmul.apply(dense, rows)
    return rows @ dense


def linear(rows: Rows, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias``; `weight` has shape ``[M, F]``, as in `torch.nn.Linear`."""
    if isinstance(rows, SparseRows):
        product = matmul(rows, weight.t())
        return product if bias is None else product + bias
    return torch.nn.functional.linear(rows, weight, bias)


def transpose_matmul(rows: Rows, dense: Tensor) -> Tensor:
    """Return ``rows.T @ dense``, shape ``[F, M]``, without gradients."""
    with torch.no_grad():
        return rows.transposed() @ dense if isinstance(rows, SparseRows) else rows.t() @ dense


def take(rows: Rows, index: Tensor) -> Rows:
    """Return the rows `index` in that order."""
    return rows.take(index) if isinstance(rows, SparseRows) else rows[index]


def norms(rows: Rows) -> Tensor:
    """Return the Euclidean norm of each row, shape ``[N]``."""
    return rows.norms() if isinstance(rows, SparseRows) else torch.linalg.vector_norm(rows, dim=1)


def rows_not_finite(rows: Rows) -> Tensor:
    """Return the indices of the rows that hold NaN or infinity, int64, ascending."""
    if isinstance(rows, SparseRows):
        entries = (~torch.isfinite(rows.csr.values())).nonzero().squeeze(1)
        return torch.unique(torch.searchsorted(rows.csr.crow_indices(), entries, right=True) - 1)
    return (~torch.isfinite(rows).all(dim=1)).nonzero().squeeze(1)


def hstack(left: Rows, right: Tensor) -> Rows:
    """Return ``[left | right]``, shape ``[N, F + P]``; sparse where `left` is."""
    if right.shape[1] == 0:
        return left
    if isinstance(left, SparseRows):
        stacked = sp.hstack([left.to_scipy(), sp.csr_matrix(right.cpu().numpy())], format="csr")
        return SparseRows.from_scipy(stacked).to(left.device)
    return torch.cat([left, right.to(left)], dim=1)


def _signed(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "u" else array


def as_rows(values: Any, *, what: str = "features") -> Rows:
    """Turn NumPy, SciPy or torch features of any number type into float32 rows; the layout is kept.

    Raises
    ------
    DataError
        Where the values are not a two-dimensional matrix of numbers.
    """
    if isinstance(values, SparseRows):
        return values
    if sp.issparse(values):
        return SparseRows.from_scipy(values)
    if isinstance(values, Tensor) and values.layout == torch.sparse_csr:
        return SparseRows(values if values.dtype == torch.float32 else values.to(torch.float32))
    if isinstance(values, Tensor) and values.layout != torch.strided:
        coalesced = values.to_sparse_coo().coalesce().cpu()
        coordinates = (coalesced.values().numpy(), tuple(coalesced.indices().numpy()))
        return SparseRows.from_scipy(sp.coo_matrix(coordinates, shape=tuple(values.shape))).to(values.device)
    try:
        # Copied: torch shares neither read-only arrays nor, before 2.3, unsigned integers of more than 8 bits.
        dense = values if isinstance(values, Tensor) else torch.from_numpy(_signed(np.array(values)))
    except (TypeError, ValueError) as error:
        raise DataError(f"The {what} are not numbers: {error}.", hint="Expected a matrix [rows, columns].") from None
    if dense.dim() != 2:
        raise DataError(
            f"The {what} have shape {tuple(dense.shape)}; expected two dimensions [rows, columns].",
            hint="One row is `x[None, :]`; one column is `x[:, None]`.",
        )
    if dense.is_complex():
        raise DataError(f"The {what} are complex numbers; expected real ones.")
    return dense.to(torch.float32)

"""Sparse feature rows: CSR matrices and their products, from the file to the student's first layer."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
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
    "StructuredRows",
    "as_divisor",
    "dropout",
    "linear",
    "matmul",
    "norms",
    "rows_not_finite",
    "take",
    "transpose_matmul",
]

# Below this share of non-zeros a sparse product beats a dense one on CPUs; docs/concepts.md describes the measurement.
SPARSE_BELOW_DENSITY = 0.08

# Largest number of entries that 32-bit indices can address.
_MOST_ENTRIES_INT32 = 2**31 - 1
_ROWS_AT_ONCE = 262_144


class StructuredRows(ABC):
    """Base of the constant float32 matrices ``[N, F]`` that are not plain tensors."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """``[N, F]``."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the values."""

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def to(self, device: torch.device | str) -> Rows:
        """Return the same rows on `device`."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """Return an ordinary tensor, shape ``[N, F]``."""

    @abstractmethod
    def to_scipy(self) -> sp.csr_matrix:
        """Return a SciPy CSR matrix."""

    @abstractmethod
    def take(self, index: Tensor) -> Rows:
        """Return the rows `index`, shape ``[len(index), F]``, in that order; indices may repeat."""

    @abstractmethod
    def matmul(self, dense: Tensor) -> Tensor:
        """Return ``rows @ dense``, shape ``[N, M]``; gradients flow to `dense`."""

    @abstractmethod
    def transpose_matmul(self, dense: Tensor) -> Tensor:
        """Return ``rows.T @ dense``, shape ``[F, M]``, without gradients."""

    @abstractmethod
    def dropout(self, share: float) -> StructuredRows:
        """Return the rows with a random `share` of their entries set to 0 and the others divided by 1 − `share`."""

    @abstractmethod
    def norms(self) -> Tensor:
        """Return the Euclidean norm of each row, shape ``[N]``."""

    @abstractmethod
    def not_finite(self) -> Tensor:
        """Return the indices of the rows that contain NaN or infinity, int64, ascending."""


class SparseRows(StructuredRows):
    """Rows in CSR form.

    A torch CSR tensor computes its transpose in every backward pass, at several times the cost of the product. This
    class caches the transpose, and supports row indexing, which torch does not.

    Parameters
    ----------
    csr : Tensor
        Two-dimensional ``torch.sparse_csr`` float32 tensor, shape ``[N, F]``.
    """

    def __init__(self, csr: Tensor) -> None:
        if csr.layout != torch.sparse_csr or csr.dim() != 2:
            raise DataError(
                f"SparseRows expects a two-dimensional CSR tensor, got {csr.layout} of {csr.dim()} dimensions."
            )
        self.csr = csr
        self._transposed: Tensor | None = None
        self._norms: Tensor | None = None
        # Rows with entries at the same positions, from which these were made.
        self._pattern: SparseRows | None = None
        self._order: Tensor | None = None

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseRows:
        """Build from any SciPy sparse matrix or array; duplicate entries are summed.

        `matrix` is not changed. A float32 CSR matrix that is sorted and free of duplicates shares its values with the
        rows.

        Indices have 32 bits if they fit: MKL, which multiplies on CPUs, would convert longer ones in each product.
        """
        csr = sp.csr_matrix(matrix, dtype=np.float32)
        if not csr.has_canonical_format:
            # It may share its indices with `matrix`, and `sum_duplicates` sorts in place.
            csr = csr.copy()
            csr.sum_duplicates()
        return cls(_csr_tensor(csr.indptr, csr.indices, csr.data, csr.shape))

    @property
    def shape(self) -> torch.Size:
        return self.csr.shape

    @property
    def device(self) -> torch.device:
        return self.csr.device

    @property
    def density(self) -> float:
        """Share of entries that are stored."""
        return self.csr.values().numel() / max(1, self.shape[0] * self.shape[1])

    def __repr__(self) -> str:
        return f"SparseRows(shape={tuple(self.shape)}, density={self.density:.2%})"

    def to(self, device: torch.device | str) -> SparseRows:
        return self if torch.device(device) == self.device else SparseRows(self.csr.to(device))

    def to_scipy(self) -> sp.csr_matrix:
        """Return a SciPy CSR matrix; rows on the CPU share their values with it."""
        csr = self.csr.cpu()
        parts = (csr.values().numpy(), csr.col_indices().numpy(), csr.crow_indices().numpy())
        return sp.csr_matrix(parts, shape=tuple(self.shape))

    def to_dense(self) -> Tensor:
        return self.csr.to_dense()

    def transposed(self) -> Tensor:
        """Return the transpose as a CSR tensor, shape ``[F, N]``; computed once."""
        if self._transposed is None:
            if self._pattern is not None:
                self._transposed = self._transpose_by_pattern(self._pattern)
            elif self.device.type == "cpu":
                self._transposed = self._transpose_on_cpu()
            else:
                self._transposed = self._transpose_on_device()
        return self._transposed

    def _transpose_on_cpu(self) -> Tensor:
        # Five times faster than torch.
        flipped = self.to_scipy().T.tocsr()
        return _csr_tensor(flipped.indptr, flipped.indices, flipped.data, flipped.shape)

    def _transpose_on_device(self) -> Tensor:
        columns = self.csr.col_indices()
        order = torch.argsort(columns, stable=True)
        counts = torch.bincount(columns, minlength=self.shape[1])
        pointers = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return _csr_tensor(pointers, self.row_of_entry()[order], self.csr.values()[order], self.shape[::-1])

    def _transpose_by_pattern(self, pattern: SparseRows) -> Tensor:
        layout, values = pattern.transposed(), self.csr.values()[pattern._order_in_transpose()]
        return _csr_tensor(layout.crow_indices(), layout.col_indices(), values, layout.shape)

    def _order_in_transpose(self) -> Tensor:
        """Return the position here of each entry of the transpose, int64; computed once."""
        if self._order is None:
            columns, count = self.csr.col_indices(), self.csr.values().numel()
            if self.device.type == "cpu":
                parts = (np.arange(count), columns.numpy(), self.csr.crow_indices().numpy())
                self._order = torch.from_numpy(sp.csr_matrix(parts, shape=tuple(self.shape)).T.tocsr().data)
            else:
                self._order = torch.argsort(columns, stable=True)
        return self._order

    def row_of_entry(self) -> Tensor:
        """Return the row index of each stored entry, int64, ascending."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.csr.crow_indices().diff())

    def take(self, index: Tensor) -> SparseRows:
        pointers, columns, values = self.csr.crow_indices(), self.csr.col_indices(), self.csr.values()
        starts, ends = pointers[index].long(), pointers[index + 1].long()
        lengths = ends - starts
        new_pointers = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(starts - new_pointers[:-1], lengths)
        picked = torch.arange(shift.numel(), device=shift.device) + shift
        return SparseRows(_csr_tensor(new_pointers, columns[picked], values[picked], (len(index), self.shape[1])))

    def dropout(self, share: float) -> SparseRows:
        """Return the rows with a random `share` of their stored entries set to 0 and the others divided by 1 − `share`.

        The entries stay stored, so that the order of entries in the transpose is computed only once.
        """
        values = torch.nn.functional.dropout(self.csr.values(), share)
        dropped = SparseRows(_csr_tensor(self.csr.crow_indices(), self.csr.col_indices(), values, self.shape))
        dropped._pattern = self if self._pattern is None else self._pattern
        return dropped

    def columns(self, index: Tensor) -> SparseRows:
        """Return the columns `index`, shape ``[N, len(index)]``; `index` must be strictly ascending."""
        position = torch.full((self.shape[1],), -1, dtype=torch.int64, device=self.device)
        position[index] = torch.arange(len(index), device=self.device)
        columns = position[self.csr.col_indices()]
        kept = columns >= 0
        lengths = torch.bincount(self.row_of_entry()[kept], minlength=len(self))
        pointers = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        return SparseRows(_csr_tensor(pointers, columns[kept], self.csr.values()[kept], (len(self), len(index))))

    def matmul(self, dense: Tensor) -> Tensor:
        if len(self) == 1 and not torch.is_grad_enabled():
            return self._row_matmul(dense)
        return _SparseMatmul.apply(dense, self)

    def _row_matmul(self, dense: Tensor) -> Tensor:
        """Multiply a single row; reads only the rows of `dense` at its non-zero columns."""
        values, columns = self.csr.values().unsqueeze(0), self.csr.col_indices()
        return values @ dense.index_select(0, columns)

    def transpose_matmul(self, dense: Tensor) -> Tensor:
        with torch.no_grad():
            return self.transposed() @ dense

    def norms(self) -> Tensor:
        if self._norms is None:
            values = self.csr.values()
            squares = torch.zeros(len(self), dtype=values.dtype, device=values.device)
            self._norms = squares.index_add_(0, self.row_of_entry(), values**2).sqrt_()
        return self._norms

    def not_finite(self) -> Tensor:
        entries = (~torch.isfinite(self.csr.values())).nonzero().squeeze(1)
        return torch.unique(torch.searchsorted(self.csr.crow_indices().long(), entries, right=True) - 1)


# Any form of a feature matrix [N, F].
Rows: TypeAlias = "Tensor | StructuredRows"


def _csr_tensor(pointers: Any, columns: Any, values: Any, shape: tuple[int, ...]) -> Tensor:
    def as_tensor(part: Any, dtype: torch.dtype) -> Tensor:
        return part.to(dtype) if isinstance(part, Tensor) else torch.from_numpy(np.ascontiguousarray(part)).to(dtype)

    values = as_tensor(values, torch.float32)
    index_dtype = torch.int32 if max(len(values), *shape) <= _MOST_ENTRIES_INT32 else torch.int64
    with warnings.catch_warnings():
        # torch warns once per process that its CSR support is "beta".
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            as_tensor(pointers, index_dtype),
            as_tensor(columns, index_dtype),
            values,
            size=tuple(shape),
            # Otherwise torch's default device.
            device=values.device,
        )


class _SparseMatmul(torch.autograd.Function):
    """``rows @ dense`` with a gradient for `dense` only, through the cached transpose; float32 even under autocast."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, rows: SparseRows) -> Tensor:
        ctx.rows, ctx.dtype = rows, dense.dtype
        with torch.autocast(dense.device.type, enabled=False):
            return rows.csr @ dense.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        with torch.autocast(gradient.device.type, enabled=False):
            return (ctx.rows.transposed() @ gradient.float()).to(ctx.dtype), None


def as_divisor(sums: Tensor) -> Tensor:
    """Return `sums` with 1 in place of 0: the mean of nothing, whose sum is 0, is then 0."""
    return sums.masked_fill(sums == 0, 1)


def matmul(rows: Rows, dense: Tensor) -> Tensor:
    """Return ``rows @ dense``, shape ``[N, M]``; gradients flow to `dense`, and to `rows` if it is a tensor."""
    return rows.matmul(dense) if isinstance(rows, StructuredRows) else rows @ dense


def linear(rows: Rows, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias``; `weight` has shape ``[M, F]``, as in `torch.nn.Linear`."""
    if isinstance(rows, StructuredRows):
        product = rows.matmul(weight.t())
        return product if bias is None else product + bias
    return torch.nn.functional.linear(rows, weight, bias)


def transpose_matmul(rows: Rows, dense: Tensor) -> Tensor:
    """Return ``rows.T @ dense``, shape ``[F, M]``, without gradients."""
    with torch.no_grad():
        return rows.transpose_matmul(dense) if isinstance(rows, StructuredRows) else rows.t() @ dense


def take(rows: Rows, index: Tensor) -> Rows:
    """Return the rows `index` in that order."""
    # `rows[index]` takes twice the time.
    return rows.take(index) if isinstance(rows, StructuredRows) else rows.index_select(0, index)


def dropout(rows: Rows, share: float) -> Rows:
    """Return `rows` with a random `share` of their entries set to 0 and the others divided by 1 − `share`."""
    return rows.dropout(share) if isinstance(rows, StructuredRows) else torch.nn.functional.dropout(rows, share)


def norms(rows: Rows) -> Tensor:
    """Return the Euclidean norm of each row, shape ``[N]``."""
    return rows.norms() if isinstance(rows, StructuredRows) else torch.linalg.vector_norm(rows, dim=1)


def rows_not_finite(rows: Rows) -> Tensor:
    """Return the indices of the rows that contain NaN or infinity, int64, ascending."""
    if isinstance(rows, StructuredRows):
        return rows.not_finite()
    # In blocks, since features mapped from a file may be larger than memory.
    parts = [
        start + (~torch.isfinite(rows[start : start + _ROWS_AT_ONCE]).all(dim=1)).nonzero().squeeze(1)
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device=rows.device)

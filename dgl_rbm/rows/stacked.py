"""Column-wise concatenation of feature rows and encodings without a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.rows.sparse import (
    Rows,
    SparseRows,
    StructuredRows,
    dropout,
    matmul,
    norms,
    rows_not_finite,
    take,
    transpose_matmul,
)

__all__ = ["StackedRows", "hstack"]

# Dense parts up to this size are concatenated: one product is slightly faster than two.
_COPIED_BYTES = 256 * 2**20


class StackedRows(StructuredRows):
    """Column-wise concatenation of matrices, each in its own layout.

    A product is the sum of the products of the parts. 64 dense columns of encodings beside 1,433 sparse columns of
    features thus use a dense product; stored as sparse entries they would be multiplied five times slower.

    Parameters
    ----------
    parts : sequence of Tensor or SparseRows
        float32 ``[N, F_i]``, on one device.
    """

    def __init__(self, parts: Sequence[Tensor | SparseRows]) -> None:
        self.parts = tuple(parts)
        self._norms: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.parts[0].shape[0], sum(self.widths)))

    @property
    def widths(self) -> list[int]:
        """Number of columns of each part."""
        return [part.shape[1] for part in self.parts]

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    def __repr__(self) -> str:
        return f"StackedRows({', '.join(str(part) for part in self.parts)})"

    def to(self, device: torch.device | str) -> StackedRows:
        return self if torch.device(device) == self.device else self._each(lambda part: part.to(device))

    def to_dense(self) -> Tensor:
        return torch.cat([part if isinstance(part, Tensor) else part.to_dense() for part in self.parts], dim=1)

    def to_scipy(self) -> sp.csr_matrix:
        parts = [
            sp.csr_matrix(part.cpu().numpy()) if isinstance(part, Tensor) else part.to_scipy() for part in self.parts
        ]
        return sp.hstack(parts, format="csr", dtype=np.float32)

    def take(self, index: Tensor) -> Rows:
        """Return the rows `index`; a plain tensor if every part is one."""
        picked = self._each(lambda part: take(part, index))
        return picked.to_dense() if all(isinstance(part, Tensor) for part in picked.parts) else picked

    def matmul(self, dense: Tensor) -> Tensor:
        products = [matmul(part, rows) for part, rows in zip(self.parts, dense.split(self.widths), strict=True)]
        total = products[0]
        for product in products[1:]:
            total = total + product
        return total

    def transpose_matmul(self, dense: Tensor) -> Tensor:
        return torch.cat([transpose_matmul(part, dense) for part in self.parts])

    def dropout(self, share: float) -> StackedRows:
        return self._each(lambda part: dropout(part, share))

    def norms(self) -> Tensor:
        if self._norms is None:
            self._norms = torch.stack([norms(part) for part in self.parts]).square_().sum(dim=0).sqrt_()
        return self._norms

    def not_finite(self) -> Tensor:
        return torch.unique(torch.cat([rows_not_finite(part) for part in self.parts]))

    def _each(self, change: Callable[[Rows], Rows]) -> StackedRows:
        return StackedRows([change(part) for part in self.parts])  # type: ignore[misc]


def hstack(left: Rows, right: Tensor) -> Rows:
    """Return ``[left | right]``, shape ``[N, F + P]``.

    Parameters
    ----------
    left : Tensor or SparseRows
        float32 ``[N, F]``.
    right : Tensor
        float32 ``[N, P]``; moved to the device of `left`.

    Returns
    -------
    Tensor or StackedRows
        `left` itself if P is 0; a tensor if `left` is a tensor of at most 256 MiB; `StackedRows` otherwise.
    """
    if right.shape[1] == 0:
        return left
    right = right.to(left.device)
    if isinstance(left, Tensor) and left.numel() * left.element_size() <= _COPIED_BYTES:
        return torch.cat([left, right.to(left)], dim=1)
    assert isinstance(left, (Tensor, SparseRows))
    return StackedRows([left, right])

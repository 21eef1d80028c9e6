"""Conversion of arrays, matrices and tensors to float32 rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.sparse import Rows, SparseRows, StructuredRows

__all__ = ["as_rows"]


def _torch_compatible(array: np.ndarray) -> np.ndarray:
    # torch supports the machine's byte order alone and, before 2.3, no unsigned integers of more than 8 bits.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.astype(np.float32) if native.dtype.kind == "u" else native


def _can_be_shared(values: Any) -> bool:
    """Whether `values` are float32 rows in a file whose tensor may be written to without changing the file."""
    if not isinstance(values, np.memmap) or values.dtype != np.float32 or values.ndim != 2:
        return False
    # torch supports neither negative strides nor fractions of an element.
    supported = all(stride >= 0 and stride % values.itemsize == 0 for stride in values.strides)
    return values.mode == "c" and values.flags.writeable and supported


def as_rows(values: Any, *, what: str = "features") -> Rows:
    """Convert NumPy, SciPy or torch features of any number type to float32 rows; the layout is kept.

    `values` are never changed. These share their memory with the result: float32 tensors, float32 CSR matrices
    without repeated or unsorted entries, and float32 arrays that are mapped from a file copy-on-write
    (`numpy.memmap` of mode ``"c"``, `map_npy`), which stay on disk. Other NumPy arrays are copied into memory,
    among them those mapped in another mode: a write would fail or change the file.

    Raises
    ------
    DataError
        If `values` is not a two-dimensional matrix of numbers.
    """
    if isinstance(values, StructuredRows):
        return values
    if sp.issparse(values):
        return SparseRows.from_scipy(values)
    if isinstance(values, Tensor) and values.layout == torch.sparse_csr:
        return SparseRows(values if values.dtype == torch.float32 else values.to(torch.float32))
    if isinstance(values, Tensor) and values.layout != torch.strided:
        coalesced = values.to_sparse_coo().coalesce().cpu()
        coordinates = (coalesced.values().numpy(), tuple(coalesced.indices().numpy()))
        return SparseRows.from_scipy(sp.coo_matrix(coordinates, shape=tuple(values.shape))).to(values.device)
    if _can_be_shared(values):
        return torch.from_numpy(values)
    try:
        # Copied, because a tensor that shares the memory of a read-only array could be written to.
        dense = values if isinstance(values, Tensor) else torch.from_numpy(_torch_compatible(np.array(values)))
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

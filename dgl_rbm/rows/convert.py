"""From arrays, matrices and tensors of any kind to float32 rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.memory_mapped import own_mapping
from dgl_rbm.rows.sparse import Rows, SparseRows, StructuredRows

__all__ = ["as_rows"]


def _as_torch_takes_it(array: np.ndarray) -> np.ndarray:
    # torch knows the machine's byte order alone and, before 2.3, no unsigned integers of more than 8 bits.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.astype(np.float32) if native.dtype.kind == "u" else native


def _mapped(values: np.memmap) -> Tensor | None:
    """Return a tensor that may be written to without changing the file; None where that takes a copy."""
    if values.mode == "c" and values.flags.writeable:
        # Strides that torch has no like of.
        odd = any(stride < 0 or stride % values.itemsize for stride in values.strides)
        return None if odd else torch.from_numpy(values)
    mapped = own_mapping(values)
    return None if mapped is None else torch.from_numpy(mapped)


def as_rows(values: Any, *, what: str = "features") -> Rows:
    """Turn NumPy, SciPy or torch features of any number type into float32 rows; the layout is kept.

    A float32 array that is mapped from a file (`numpy.memmap`) stays there, mapped once more where writing to it would
    fail or change the file; where that cannot be done it is copied, as it is where rows or columns are picked with
    gaps. Other NumPy arrays are copied. Memory is shared with float32 tensors, with maps that are copy-on-write
    already (mode ``"c"``), and with float32 CSR matrices without repeated or unsorted entries. Nothing that is passed
    is changed.

    Raises
    ------
    DataError
        Where the values are not a two-dimensional matrix of numbers.
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
    if isinstance(values, np.memmap) and values.dtype == np.float32 and values.ndim == 2:
        mapped = _mapped(values)
        if mapped is not None:
            return mapped
    try:
        # Copied: torch shares neither read-only arrays nor, before 2.3, unsigned integers of more than 8 bits.
        dense = values if isinstance(values, Tensor) else torch.from_numpy(_as_torch_takes_it(np.array(values)))
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

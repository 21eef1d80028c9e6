"""From arrays, matrices and tensors of any kind to float32 rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.sparse import Rows, SparseRows, StructuredRows

__all__ = ["as_rows"]


def _signed(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "u" else array


def _mapped(values: np.memmap) -> Tensor:
    with warnings.catch_warnings():
        # torch warns of arrays that may not be written to; rows are constant.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values)


def as_rows(values: Any, *, what: str = "features") -> Rows:
    """Turn NumPy, SciPy or torch features of any number type into float32 rows; the layout is kept.

    A float32 array that is mapped from a file (`numpy.memmap`) stays there; other arrays are copied.

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
        return _mapped(values)
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

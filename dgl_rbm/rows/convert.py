"""Conversion of arrays, matrices and tensors to float32 rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import is_missing, without_mask
from dgl_rbm.rows.sparse import Rows, SparseRows, StructuredRows

__all__ = ["as_rows", "column_names"]


def _torch_compatible(array: np.ndarray) -> np.ndarray:
    # torch supports the machine's byte order alone and, before 2.3, no unsigned integers of more than 8 bits.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.astype(np.float32) if native.dtype.kind == "u" or native.itemsize > 8 else native


def _can_be_shared(values: Any) -> bool:
    """Whether `values` are float32 rows in a file whose tensor may be written to without changing the file."""
    if not isinstance(values, np.memmap) or values.dtype != np.float32 or values.ndim != 2:
        return False
    # torch supports neither negative strides nor fractions of an element.
    supported = all(stride >= 0 and stride % values.itemsize == 0 for stride in values.strides)
    return values.mode == "c" and values.flags.writeable and supported


def column_names(values: Any) -> tuple[str, ...]:
    """Return the names of the columns of a table; empty for arrays, and for tables whose columns are numbered."""
    try:
        names = tuple(values.columns) if _is_table(values) else ()
    # Other packages' tables raise anything; reading them reports it.
    except Exception:
        return ()
    return names if all(isinstance(name, str) for name in names) else ()


def as_rows(values: Any, *, what: str = "features", columns: Sequence[str] = ()) -> Rows:
    """Convert NumPy, SciPy or torch features of any number type to float32 rows; the layout is kept.

    `values` are never changed. These share their memory with the result: float32 tensors, float32 CSR matrices
    without repeated or unsorted entries, and float32 arrays that are mapped from a file copy-on-write
    (`numpy.memmap` of mode ``"c"``, `map_npy`), which stay on disk. Other NumPy arrays are copied into memory,
    among them those mapped in another mode: a write would fail or change the file.

    Parameters
    ----------
    values : array-like
        ``[N, F]``.
    what : str
        Name of the values in errors.
    columns : sequence of str
        Which columns of a table to read, in this order; empty for all.

    Raises
    ------
    DataError
        If `values` is not a two-dimensional matrix of numbers.
    """
    if isinstance(values, StructuredRows):
        return values
    if sp.issparse(values):
        _check_form(values.shape, values.dtype.kind, what)
        return SparseRows.from_scipy(values)
    if isinstance(values, Tensor) and (values.is_nested or values.is_meta or values.is_quantized):
        raise DataError(f"The {what} are a tensor that is nested, quantised or without values; expected a plain one.")
    if isinstance(values, Tensor) and values.layout != torch.strided:
        _check_form(values.shape, "c" if values.is_complex() else "f", what)
        return _from_sparse(values.detach().clone() if values.is_inference() else values.detach())
    if _can_be_shared(values):
        return torch.from_numpy(values)
    if isinstance(values, Tensor):
        # Computations with gradients cannot keep tensors that were made in inference mode.
        dense = values.detach().clone() if values.is_inference() else values.detach()
    elif _is_table(values):
        dense = torch.from_numpy(_from_columns(values, what, columns))
    else:
        dense = torch.from_numpy(_from_array(values, what))
    _check_form(dense.shape, "c" if dense.is_complex() else "f", what)
    return dense.to(torch.float32)


def _check_form(shape: Sequence[int], kind: str, what: str) -> None:
    if len(shape) != 2:
        raise DataError(
            f"The {what} have shape {tuple(shape)}; expected two dimensions [rows, columns].",
            hint="One row is `x[None, :]`; one column is `x[:, None]`.",
        )
    if kind == "c":
        raise DataError(f"The {what} are complex numbers; expected real ones.")
    if kind not in "biuf":
        raise DataError(f"The {what} are not numbers.")


def _from_sparse(values: Tensor) -> SparseRows:
    if values.layout == torch.sparse_csr:
        return SparseRows(values if values.dtype == torch.float32 else values.to(torch.float32))
    coalesced = values.to_sparse_coo().coalesce().cpu()
    coordinates = (coalesced.values().float().numpy(), tuple(coalesced.indices().numpy()))
    return SparseRows.from_scipy(sp.coo_matrix(coordinates, shape=tuple(values.shape))).to(values.device)


def _from_array(values: Any, what: str) -> np.ndarray:
    """Return a copy of the values in a type that torch supports; text is refused, even that of numbers.

    A tensor that shared the memory of a read-only array could be written to.
    """
    expected = "Expected a matrix [rows, columns]."
    is_array = hasattr(values, "__array__") or hasattr(values, "__len__")
    if values is None or isinstance(values, (str, bytes, Mapping, Set)) or not is_array:
        raise DataError(f"The {what} are of type {type(values).__name__}, not numbers.", hint=expected)
    try:
        array = np.array(without_mask(values))
    # Other packages' arrays and sequences raise anything.
    except Exception as error:
        raise DataError(f"The {what} are not numbers: {error}.", hint=expected) from None
    if array.dtype.kind in "US":
        # The values as they were given: NumPy converts numbers beside text to text.
        array = np.array(values, dtype=object)
    if array.dtype.names and array.ndim == 1:
        return _stacked([_numbers(array[name], what, f"column '{name}'") for name in array.dtype.names], len(array))
    if array.dtype.kind == "O" and array.ndim == 2:
        columns = [_numbers(array[:, column], what, f"column {column}") for column in range(array.shape[1])]
        return _stacked(columns, len(array))
    if array.dtype.kind == "c":
        raise DataError(f"The {what} are complex numbers; expected real ones.")
    if array.dtype.kind not in "biuf":
        raise DataError(f"The {what} are of type {array.dtype}, not numbers.", hint=expected)
    return _torch_compatible(array)


def _stacked(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype=np.float32)


def _is_table(values: Any) -> bool:
    """Whether `values` are a table of named columns, as in pandas or polars."""
    return hasattr(values, "columns") and hasattr(values, "__getitem__") and getattr(values, "ndim", 2) == 2


def _from_columns(table: Any, what: str, wanted: Sequence[str]) -> np.ndarray:
    try:
        names = list(table.columns)
        repeated = {str(name) for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        columns = [] if repeated else [(name, np.asarray(table[name])) for name in wanted or names]
        rows = len(table)
    # Other packages' tables raise anything.
    except Exception as error:
        raise DataError(f"The {what} cannot be read as a table: {error}.") from None
    if repeated:
        raise DataError(f"The {what} have several columns named '{min(repeated)}'.")
    return _stacked([_numbers(column, what, f"column '{name}'") for name, column in columns], rows)


def _numbers(column: np.ndarray, what: str, place: str) -> np.ndarray:
    """Return a column as float32, missing values as NaN; refuse what is not a number, by its row."""
    if column.ndim == 1 and column.dtype.kind in "biuf":
        return column.astype(np.float32)
    if column.ndim != 1 or column.dtype.kind not in "OUS":
        raise DataError(f"The {what}, {place}, are of type {column.dtype}; expected numbers.")
    for row, value in enumerate(column):
        if not isinstance(value, (Number, np.bool_)) and not is_missing(value):
            raise DataError(f"The {what}, {place}, row {row}: {str(value)[:40]!r} is not a number.")
    try:
        filled = [np.nan if is_missing(value) else float(value) for value in column]
    except (TypeError, OverflowError, ValueError) as error:
        raise DataError(f"The {what}, {place}, are not all real numbers: {error}.") from None
    return np.array(filled, dtype=np.float32)

"""Checked entry of ids, masks and lists of neighbours: every door of the package converts its arguments here.

A value is read as what it is, or refused with the argument's name, the position, the value and what was expected.
Nothing is rounded, cut or reinterpreted.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError, shown

__all__ = ["as_array", "id_array", "is_missing", "neighbor_lists", "optional_ids", "without_mask"]

# Beyond it, float64 does not represent every integer.
_LARGEST_WHOLE_FLOAT = 2**53


def as_array(values: Any, what: str) -> np.ndarray:
    """Return lists, tensors, pandas and other array-like values as a NumPy array of at least one dimension.

    Parameters
    ----------
    values : array-like
        Not a single value, text, mapping, set or iterator.
    what : str
        Name of the argument in errors.

    Raises
    ------
    DataError
        If the values are no array, or its rows differ in length.
    """
    if values is None or isinstance(values, (str, bytes, Mapping, Set)) or np.isscalar(values):
        raise DataError(f"{what} is {shown(values)}; expected a list or an array.", hint=_one_value_hint(values))
    if isinstance(values, Tensor):
        return _of_tensor(values, what)
    if not isinstance(values, (Sequence, np.ndarray)) and not hasattr(values, "__array__"):
        kind, call = type(values).__name__, "values.toarray()" if hasattr(values, "toarray") else "list(values)"
        raise DataError(f"{what} is a {kind}; expected a list or an array.", hint=f"Convert it first: `{call}`.")
    try:
        array = _converted(values)
    # Other packages' arrays and sequences raise anything.
    except Exception as error:
        raise DataError(f"{what} cannot be read as an array: {error}.") from None
    if array.ndim == 0:
        raise DataError(f"{what} is {shown(values)}; expected a list or an array.", hint=_one_value_hint(values))
    return array


def _converted(values: Any) -> np.ndarray:
    """Return values as an array; masked and missing ones are None beside integers."""
    if isinstance(values, (list, tuple)) and any(isinstance(value, (str, bytes)) for value in values):
        # NumPy would convert numbers to text, cut trailing zero characters, and give each text the longest one's size.
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    array = np.asarray(without_mask(values))
    if array.dtype.kind == "f" and str(getattr(values, "dtype", "")).lower().startswith(("int", "uint")):
        # pandas' nullable integers; floats would lose digits.
        array = np.asarray(values, dtype=object)
    return array


def without_mask(values: Any) -> Any:
    """Return a masked array as an array of objects, None in place of masked entries; other values as they are."""
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return values
    found = np.array(values.data, dtype=object)
    found[np.ma.getmaskarray(values)] = None
    return found


def _of_tensor(values: Tensor, what: str) -> np.ndarray:
    if values.layout != torch.strided or values.is_nested or values.is_meta or values.is_quantized:
        raise DataError(f"{what} is a tensor of layout {values.layout} on {values.device}; expected a plain one.")
    if values.dim() == 0:
        raise DataError(f"{what} is {values.item()!r}; expected a list or an array.", hint="One id is `[id]`.")
    dense = values.detach().cpu().resolve_conj().resolve_neg()
    found: np.ndarray = (dense.float() if dense.dtype in (torch.bfloat16, torch.float16) else dense).numpy()
    return found


def id_array(values: Any, what: str = "node_ids") -> np.ndarray:
    """Return ids, int64 or text (object) ``[B]``.

    Parameters
    ----------
    values : array-like
        Integers, whole floats or text, one-dimensional.
    what : str
        Name of the argument in errors.

    Raises
    ------
    DataError
        If the values are a mask, not one-dimensional, or one of them is neither a whole number nor text; names its
        position.
    """
    array = as_array(values, what)
    if array.ndim != 1:
        raise DataError(
            f"{what} has shape {array.shape}; expected one id per entry.", hint="Flatten it: `numpy.ravel(ids)`."
        )
    if isinstance(values, (list, tuple)) and (len(set(map(type, values))) > 1 or _are_integers(values, array)):
        # NumPy would convert booleans beside numbers to numbers, and integers beyond 64 bits to floats.
        return _of_objects(np.array([*values, None], dtype=object)[:-1], what)
    if array.dtype.kind == "b":
        raise DataError(
            f"{what} is a mask of {len(array)} booleans; expected ids.",
            hint="`numpy.flatnonzero(mask)` gives the positions of a mask.",
        )
    if array.dtype.kind in "iu":
        return _in_range(array, what)
    if array.dtype.kind in "US":
        return _of_objects(array.astype(object), what)
    if array.dtype.kind == "f":
        return _whole(array, what)
    if array.dtype.kind == "O":
        return _of_objects(array, what)
    raise DataError(f"{what} is of type {array.dtype}; expected integers or text.")


def optional_ids(values: Any, what: str = "node_ids") -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of the entries that are ids, bool ``[B]``, and these ids, int64 or text; see `id_array`.

    The other entries are None, NaN or empty text.
    """
    array = as_array(values, what)
    if array.ndim != 1:
        return np.ones(0, dtype=bool), id_array(array, what)
    if array.dtype.kind in "OUSf":
        given = np.array(
            [not (is_missing(value) or (isinstance(value, (str, bytes)) and not value)) for value in array], dtype=bool
        )
    else:
        given = np.ones(len(array), dtype=bool)
    return given, id_array(array[given], what)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or the missing value of pandas."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _are_integers(values: Sequence[Any], array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and len(values) > 0 and isinstance(values[0], int)


def _of_objects(array: np.ndarray, what: str) -> np.ndarray:
    for position, value in enumerate(array):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, bytes, int, float, np.number)):
            raise DataError(
                f"{what}, position {position}: {shown(value)} is no id; expected integers or text, none missing."
            )
    if not len(array):
        return array.astype(np.int64)
    is_text = [isinstance(value, (str, bytes)) for value in array]
    if all(is_text):
        return np.array([_text(value, what, position) for position, value in enumerate(array)], dtype=object)
    if any(is_text):
        raise DataError(
            f"{what}, position {is_text.index(not is_text[0])}: integers and text are mixed; expected one of them."
        )
    numbers = [
        value if isinstance(value, (int, np.integer)) else _whole_number(value, what, position)
        for position, value in enumerate(array)
    ]
    for position, number in enumerate(numbers):
        if not -(2**63) <= number < 2**63:
            raise DataError(f"{what}, position {position}: {number} is beyond the range of 64-bit integers.")
    return np.array([int(number) for number in numbers], dtype=np.int64)


def _whole_number(value: Any, what: str, position: int) -> int:
    return int(_whole(np.array([value], dtype=np.float64), what, position)[0])


def _whole(array: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    array = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(
            ~np.isfinite(array) | (array != np.round(array)) | (np.abs(array) > _LARGEST_WHOLE_FLOAT)
        )
    if len(wrong):
        raise DataError(
            f"{what}, position {first + wrong[0]}: {array[wrong[0]]} is not a whole number.",
            hint="Ids are integers or text. Integers beyond 2^53 lose digits as floats: pass them as integers.",
        )
    found: np.ndarray = array.astype(np.int64)
    return found


def _in_range(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind == "u" and len(array) and int(array.max()) >= 2**63:
        position = int(array.argmax())
        raise DataError(f"{what}, position {position}: {array[position]} is beyond the range of 64-bit integers.")
    found: np.ndarray = array.astype(np.int64)
    return found


def neighbor_lists(values: Any, count: int | None = None, what: str = "neighbors") -> tuple[Tensor, np.ndarray]:
    """Return the lengths of lists of neighbours, int64 ``[B]``, and all ids one after the other, int64 or text ``[M]``.

    Parameters
    ----------
    values : sequence of array-like
        Ids of the neighbours of each row; an empty list, or None, for a row without any.
    count : int, optional
        Number of rows, B, to which the number of lists is compared.
    what : str
        Name of the argument in errors.

    Raises
    ------
    DataError
        If there is not one list per row, or a list contains anything but ids; names the row and the position.
    """
    hint = "One list of ids per row: neighbors=[[0, 4], [], [7]]."
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise DataError(f"{what} is {shown(values)}; expected one list of ids per row.", hint=hint)
    rows = list(as_array(values, what)) if isinstance(values, (Tensor, np.ndarray)) else _listed(values, what)
    fits = count in (None, len(rows))
    if fits and (flat := _plain_lists(rows)) is not None:
        return torch.tensor([len(ids) for ids in rows], dtype=torch.int64), flat
    for row, ids in enumerate(rows):
        if ids is not None and (
            isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) == 0
        ):
            raise DataError(f"{what}, row {row}: {shown(ids)} is not a list of ids.", hint=hint)
    if not fits:
        raise DataError(f"{what} has {len(rows)} lists for {count} rows of features.", hint=hint)
    parts = [
        np.empty(0, dtype=np.int64) if ids is None else id_array(ids, f"{what}, row {row}")
        for row, ids in enumerate(rows)
    ]
    lengths = torch.tensor([len(part) for part in parts], dtype=torch.int64)
    filled = [(row, part) for row, part in enumerate(parts) if len(part)]
    for row, part in filled:
        if (part.dtype == object) != (filled[0][1].dtype == object):
            raise DataError(f"{what}, row {row}: integers and text are mixed; expected one of them.")
    flat = np.concatenate([part for _, part in filled]) if filled else np.empty(0, dtype=np.int64)
    return lengths, flat


def _listed(values: Iterable[Any], what: str) -> list[Any]:
    try:
        return list(values)
    # Other packages' sequences raise anything.
    except Exception as error:
        raise DataError(f"{what} cannot be read as a list: {error}.") from None


def _plain_lists(rows: list[Any]) -> np.ndarray | None:
    """Return the ids of lists that contain only Python integers, int64; None for others. Fast, for large requests."""
    if not set(map(type, rows)) <= {list, tuple}:
        return None
    flat = list(chain.from_iterable(rows))
    try:
        return np.array(flat, dtype=np.int64) if set(map(type, flat)) <= {int} else None
    except OverflowError:
        return None


def _text(value: str | bytes, what: str, position: int) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise DataError(f"{what}, position {position}: {shown(value)} is not text in UTF-8.") from None


def _one_value_hint(value: Any) -> str | None:
    is_one = isinstance(value, (str, int, float, np.number, datetime.date))
    return f"One value is `[{shown(value)}]`." if is_one else None

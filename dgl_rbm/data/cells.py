"""Cells of a table as ids, numbers, labels and masks; errors name the file, column, row and value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgl_rbm.data.tables import Table
from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import id_array, is_missing

__all__ = [
    "read_features",
    "read_ids",
    "read_labels",
    "read_mask",
    "read_weights",
    "split_list",
    "whole_number",
]

# Whole numbers as programs write them, also from columns with gaps ("7.0"). "007" is text, so that it stays as it is.
_INTEGER = re.compile(r"(0|-?[1-9][0-9]*)(\.0*)?")
_PADDED = re.compile(r"0[0-9]+")
_MISSING = ("", "nan", "<na>")
_MISSING_NUMBERS = (*_MISSING, "na", "n/a", "none", "null")
_TRUTH = {"true": True, "t": True, "yes": True, "1": True, "1.0": True}
_TRUTH |= {"false": False, "f": False, "no": False, "0": False, "0.0": False}
_FEATURES_HINT = "Name the columns of the features: `features=[...]` (`dataset.features` of a file)."
# Beyond it, float64 does not represent every integer.
_LARGEST_WHOLE_FLOAT = 2**53
_BETWEEN_NUMBERS = str.maketrans("[](),;", "      ")


def read_ids(table: Table, name: str, what: str = "the node ids", *, as_text: bool | None = None) -> np.ndarray:
    """Return a column of ids, int64 or text (object) ``[N]``.

    Parameters
    ----------
    table : Table
        In a text file, ids are integers if all cells of the column are, and text otherwise.
    name : str
        Name of the column.
    what : str
        What the column is for, in errors.
    as_text : bool, optional
        Whether the ids must be text, or integers.

    Raises
    ------
    DataError
        If a cell is empty, or a number that is not whole.
    """
    cells = table.column(name, what)
    if not table.is_text:
        return _typed_ids(table, name, cells, as_text)
    codes, texts = _distinct(cells)
    for code, text in enumerate(texts):
        if text.lower() in _MISSING:
            raise _first(table, name, codes, code, "is not an id", "Every row needs an id, integers or text.")
    if as_text:
        return np.array(texts, dtype=object)[codes] if len(texts) else cells
    numbers, wrong = _integers(texts)
    if wrong is None and numbers is None and as_text is False:
        wrong = next(code for code, text in enumerate(texts) if not _fits(text))
    if wrong is not None:
        raise _first(table, name, codes, wrong, "is not a whole number", "Ids are integers such as 17, or text.")
    if numbers is None:
        return np.array(texts, dtype=object)[codes]
    return np.array(numbers, dtype=np.int64)[codes]


def read_labels(table: Table, name: str) -> np.ndarray:
    """Return a column of labels: int64, −1 for a node without label, or text, empty for a node without label.

    Raises
    ------
    DataError
        If all cells are numbers, and one of them is not whole.
    """
    cells = table.column(name, "the labels")
    if not table.is_text:
        return cells
    codes, texts = _distinct(cells)
    given = [text for text in texts if text.lower() not in _MISSING_NUMBERS]
    numbers, wrong = _integers(given)
    if wrong is not None:
        raise _first(
            table, name, codes, texts.index(given[wrong]), "is not a whole number", "Labels are integers or text."
        )
    if numbers is not None:
        value: dict[str, Any] = dict(zip(given, numbers, strict=True))
        return np.array([value.get(text, -1) for text in texts], dtype=np.int64)[codes]
    return np.array(["" if text.lower() in _MISSING else text for text in texts], dtype=object)[codes]


def read_mask(table: Table, name: str, what: str) -> np.ndarray:
    """Return a column of truth values, bool ``[N]``, or of lists of them, bool ``[N, K]`` for K splits.

    Raises
    ------
    DataError
        If a cell of a text file is neither true, false, 1 nor 0, or the lists differ in length.
    """
    cells = table.column(name, what)
    if not table.is_text:
        return cells
    codes, texts = _distinct(cells)
    values: list[list[bool | None]] = []
    for code, text in enumerate(texts):
        parts = [_TRUTH.get(part) for part in text.lower().translate(_BETWEEN_NUMBERS).split()]
        if not parts or None in parts:
            raise _first(table, name, codes, code, "is no truth value; expected true, false, 1 or 0")
        if values and len(parts) != len(values[0]):
            raise _first(table, name, codes, code, f"has {len(parts)} entries; the first row has {len(values[0])}")
        values.append(parts)
    if not values:
        return np.empty(0, dtype=bool)
    masks = np.array(values, dtype=bool)[codes]
    return masks[:, 0] if masks.shape[1] == 1 else masks


def read_features(table: Table, names: Sequence[str]) -> np.ndarray:
    """Return columns of numbers, and of packed lists such as ``"0.1, 0.2"`` or ``"0.1 0.2"``, side by side.

    Returns
    -------
    ndarray
        float32 ``[N, F]``.

    Raises
    ------
    DataError
        If a cell is not a finite number or a list of as many numbers as in the other rows.
    """
    table.load(names)
    return np.concatenate([_numbers(table, name, "the features") for name in names], axis=1)


def read_weights(table: Table, name: str) -> np.ndarray:
    """Return a column of edge weights, float32 ``[E]``; errors as for `read_features`."""
    numbers = _numbers(table, name, "the edge weights")
    if numbers.shape[1] != 1:
        raise table.error(name, 0, "is a list; expected one weight")
    found: np.ndarray = numbers[:, 0]
    return found


def split_list(cell: str) -> list[str]:
    """Return the parts of a packed list, separated by spaces, commas or semicolons."""
    return cell.translate(_BETWEEN_NUMBERS).split()


def whole_number(value: Any) -> int | None:
    """Return an integer of 64 bits, given as text too; None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.floating)):
        return int(value) if np.isfinite(value) and value == int(value) and abs(value) <= _LARGEST_WHOLE_FLOAT else None
    text = str(value).strip() if isinstance(value, (str, int, np.integer)) else ""
    return int(text.partition(".")[0]) if _fits(text) else None


def _typed_ids(table: Table, name: str, cells: np.ndarray, as_text: bool | None) -> np.ndarray:
    for row, cell in enumerate(cells) if cells.dtype.kind in "fO" else ():
        if is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
            raise table.error(name, row, "is not an id", "Every row needs an id, integers or text.")
    ids = id_array(cells, f"{table.source}, column '{name}'")
    is_text = ids.dtype.kind == "O"
    if as_text is not None and len(ids) and is_text != as_text:
        raise table.error(name, 0, f"is {'text' if is_text else 'a number'}; the node ids are not")
    return ids


def _numbers(table: Table, name: str, what: str) -> np.ndarray:
    """Return a column of numbers or packed lists, float32 ``[N, width]``."""
    cells = table.column(name, what)
    single = cells.astype(np.float64) if cells.dtype.kind in "biuf" else _as_floats(cells)
    if single is None:
        return _packed(table, name, cells)
    with np.errstate(over="ignore"):
        found = single.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise table.error(name, int(wrong[0]), "is NaN, infinite or empty; expected a number")
    return found[:, None]


def _packed(table: Table, name: str, cells: np.ndarray) -> np.ndarray:
    """Return a column of packed lists, or find the first cell that is no number."""
    lists = [_parts(cell) for cell in cells]
    widths = np.array([len(parts) for parts in lists])
    width = int(np.bincount(widths[widths > 0]).argmax()) if widths.any() else 1
    flat = None
    if (widths == width).all():
        flat = _as_floats(_objects([part for parts in lists for part in parts]))
    if flat is not None:
        with np.errstate(over="ignore"):
            found = flat.astype(np.float32).reshape(len(cells), width)
        if np.isfinite(found).all():
            return found
    expected = "a number" if width == 1 else f"{width} numbers, separated by commas or spaces"
    for row, parts in enumerate(lists):
        numbers = _as_floats(_objects(parts))
        with np.errstate(over="ignore"):
            if not parts or (numbers is not None and not np.isfinite(numbers.astype(np.float32)).all()):
                raise table.error(name, row, f"is NaN, infinite or empty; expected {expected}")
        if numbers is None:
            raise table.error(
                name,
                row,
                f"is not a number; expected {expected}",
                _FEATURES_HINT,
            )
        if len(parts) != width:
            raise table.error(name, row, f"has {len(parts)} numbers; expected {expected}")
    raise AssertionError("a faulty cell was found above")


def _parts(cell: Any) -> list[Any]:
    if isinstance(cell, str):
        truth = _TRUTH.get(cell.strip().lower())
        return [float(truth)] if truth is not None else split_list(cell)
    if isinstance(cell, (list, tuple, np.ndarray)):
        return list(cell)
    return [] if is_missing(cell) else [cell]


def _objects(values: Sequence[Any]) -> np.ndarray:
    """Return an object array of one dimension, also of lists."""
    return np.array([*values, None], dtype=object)[:-1]


def _as_floats(cells: np.ndarray) -> np.ndarray | None:
    """Return float64 values; None if one is no number."""
    # Python reads "1_000" as a number.
    if any("_" in cell for cell in cells if isinstance(cell, str)):
        return None
    try:
        found: np.ndarray = cells.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return found


def _distinct(cells: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the number of each cell's text, and the distinct texts without surrounding spaces."""
    codes, found = pd.factorize(cells)
    texts: dict[str, int] = {}
    merged = np.array([texts.setdefault(text.strip(), len(texts)) for text in found], dtype=np.int64)
    return (merged[codes] if len(found) else np.empty(0, dtype=np.int64)), list(texts)


def _integers(texts: Sequence[str]) -> tuple[list[int] | None, int | None]:
    """Return the texts as integers if all are; otherwise None, and the first fraction if all are numbers."""
    if all(map(_fits, texts)):
        return [int(text.partition(".")[0]) for text in texts], None
    if (
        any(_PADDED.fullmatch(text) for text in texts)
        or _as_floats(np.array([*texts, None], dtype=object)[:-1]) is None
    ):
        return None, None
    fractions = [number for number, text in enumerate(texts) if not _INTEGER.fullmatch(text)]
    # Without fractions, some are beyond 64 bits: they stay text.
    return None, fractions[0] if fractions else None


def _fits(text: str) -> bool:
    return len(text) < 40 and _INTEGER.fullmatch(text) is not None and -(2**63) <= int(text.partition(".")[0]) < 2**63


def _first(table: Table, name: str, codes: np.ndarray, code: int, problem: str, hint: str | None = None) -> DataError:
    return table.error(name, int(np.flatnonzero(codes == code)[0]), problem, hint)

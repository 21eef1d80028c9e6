"""Labels of a user's graph: class numbers from any integers or text, with the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array, id_array, is_missing

__all__ = ["ReadLabels", "read_labels"]

_SHOWN = 5
# From this absolute value on, float64 does not represent every integer.
_LARGEST_FLOAT = 2**53


@dataclass(frozen=True)
class ReadLabels:
    """Checked labels.

    Attributes
    ----------
    numbers : Tensor
        Class numbers, int64 ``[N]``; −1 for a node without label.
    classes : tuple of int or str
        The label that each class number stands for, length C.
    notes : tuple of str
        States how labels were renumbered.
    """

    numbers: Tensor
    classes: tuple[int | str, ...]
    notes: tuple[str, ...] = ()


def read_labels(
    values: Any,
    num_nodes: int | None,
    num_classes: int | None,
    problems: list[str],
    names: Sequence[Any] | None = None,
) -> ReadLabels | None:
    """Return class numbers and class names; None, and a problem, if the labels cannot be read.

    Class numbers 0 to C − 1 are kept. Other integers and text are numbered in ascending order, and the labels
    themselves become the names of the classes.

    Parameters
    ----------
    values : array-like
        Integers, whole floats, booleans or text ``[N]`` or ``[N, 1]``. −1, NaN, None and empty text stand for a node
        without label.
    num_nodes : int or None
        N, if it is known.
    num_classes : int or None
        C; None for the number of distinct labels.
    problems : list of str
        Problems are appended.
    names : sequence of int or str, optional
        Names of the class numbers 0 to C − 1.
    """
    if names is not None and (names := _class_names(names, problems)) is None:
        return None
    try:
        array = _plain(as_array(values, "labels"))
    except DataError as error:
        problems.append(error.as_problem())
        return None
    if array is None:
        problems.append(
            "the labels are neither numbers nor text; expected a class per node, and −1 or empty text for a node "
            "without label."
        )
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        problems.append(
            f"the labels have shape {tuple(array.shape)}, expected one class per node; several labels per node are "
            "not supported, one-hot labels become class numbers with `labels.argmax(1)`."
        )
        return None
    if num_nodes is not None and len(array) != num_nodes:
        problems.append(f"there are {len(array)} labels; the graph has {num_nodes} nodes.")
        return None
    if array.dtype.kind == "O":
        return _from_text(array, num_classes, problems)
    numbers = _whole_numbers(array, problems)
    return None if numbers is None else _from_numbers(numbers, num_classes, problems, names)


def _class_names(names: Sequence[Any], problems: list[str]) -> tuple[int | str, ...] | None:
    """Return the names as Python integers or text; None, and a problem, if they are anything else."""
    try:
        found: tuple[int | str, ...] = tuple(id_array(names, "classes").tolist())
    except DataError as error:
        problems.append(error.as_problem())
        return None
    if len(set(found)) < len(found):
        problems.append(f"the class names are not unique: {', '.join(map(str, found[:_SHOWN]))}.")
        return None
    return found


def _plain(array: np.ndarray) -> np.ndarray | None:
    """Return labels as numbers, or as an array of text and missing values; None if they are neither."""
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.kind != "O":
        return array if array.dtype.kind in "biuf" else None
    known = [value for value in array.ravel() if not is_missing(value)]
    if all(isinstance(value, (str, bytes)) for value in known):
        found = array.copy()
        for position, value in np.ndenumerate(array):
            found[position] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        return found
    if all(isinstance(value, (int, float, np.number, np.bool_)) for value in known):
        numbers = np.asarray([-1 if is_missing(value) else value for value in array.ravel()])
        return numbers.reshape(array.shape) if numbers.dtype.kind in "biuf" else numbers.astype(np.float64)
    return None


def _whole_numbers(array: np.ndarray, problems: list[str]) -> np.ndarray | None:
    """Return the labels as int64; None, and a problem, if one is no integer or out of the range of int64."""
    if array.dtype.kind == "f":
        numbers = np.where(np.isnan(array), -1.0, array.astype(np.float64))
        with np.errstate(invalid="ignore"):
            wrong = (numbers != np.round(numbers)) | (np.abs(numbers) > _LARGEST_FLOAT)
        if wrong.any():
            problems.append(f"the labels of {_nodes(wrong)} are not whole numbers.")
            return None
        array = numbers
    if array.dtype.kind == "u" and len(array) and int(array.max()) > np.iinfo(np.int64).max:
        problems.append(f"the labels of {_nodes(array > np.iinfo(np.int64).max)} are beyond 2^63.")
        return None
    numbers = array.astype(np.int64)
    below = numbers < -1
    if below.any():
        problems.append(f"the labels of {_nodes(below)} are below −1, which stands for 'no label'.")
        return None
    return numbers


def _from_numbers(
    numbers: np.ndarray, num_classes: int | None, problems: list[str], names: Sequence[int | str] | None
) -> ReadLabels | None:
    distinct = np.unique(numbers[numbers >= 0])
    count = num_classes if num_classes is not None else (len(names) if names is not None else None)
    if not len(distinct):
        problems.append("no node has a label.")
        return None
    if count is None and len(distinct) == 1:
        problems.append(f"all labels are {distinct[0]}; expected two or more classes (−1 stands for 'no label').")
        return None
    numbered = int(distinct[-1]) < (len(distinct) if count is None else count)
    if numbered:
        count = len(distinct) if count is None else count
        if names is not None and len(names) != count:
            problems.append(f"there are {len(names)} class names for {count} classes.")
            return None
        return ReadLabels(torch.from_numpy(numbers), tuple(range(count)) if names is None else tuple(names))
    if count is not None and len(distinct) != count:
        problems.append(
            f"the labels of {_nodes(numbers >= count)} are out of range: {count} classes are numbered 0 to "
            f"{count - 1}, and the labels have {len(distinct)} distinct values: {_shown(distinct)}."
        )
        return None
    renumbered = np.where(numbers < 0, -1, np.searchsorted(distinct, numbers))
    classes = tuple(distinct.tolist()) if names is None else tuple(names)
    note = f"the labels {_shown(distinct)} are the classes 0 to {len(distinct) - 1}; predictions are in the labels."
    return ReadLabels(torch.from_numpy(renumbered), classes, (note,))


def _from_text(array: np.ndarray, num_classes: int | None, problems: list[str]) -> ReadLabels | None:
    texts = ["" if is_missing(value) else value.strip() for value in array]
    classes = tuple(sorted({text for text in texts if text}))
    if not classes:
        problems.append("no node has a label.")
        return None
    if len(classes) == 1 and num_classes is None:
        problems.append(f"all labels are {classes[0]!r}; expected two or more classes.")
        return None
    if num_classes is not None and len(classes) != num_classes:
        problems.append(
            f"the labels have {len(classes)} distinct values ({_shown(np.array(classes, dtype=object))}); "
            f"num_classes is {num_classes}."
        )
        return None
    number = {name: position for position, name in enumerate(classes)}
    return ReadLabels(torch.tensor([number.get(text, -1) for text in texts], dtype=torch.int64), classes)


def _nodes(wrong: np.ndarray) -> str:
    ids = np.flatnonzero(wrong)
    return f"node{'s' if len(ids) > 1 else ''} {_shown(ids)}"


def _shown(values: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN].tolist())
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown

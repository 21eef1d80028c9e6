"""Training, validation and test nodes of a user's graph: masks of every form, positions, and the nodes' own ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array, is_missing
from dgl_rbm.rows.node_ids import NodeIds, name_nodes

__all__ = ["read_parts"]


def read_parts(
    given: Mapping[str, Any], ids: NodeIds, problems: list[str], *, split_index: int | None = None
) -> dict[str, Tensor | None]:
    """Return the positions of the nodes of each part, int64, ascending; None, and a problem, if they cannot be read.

    Parameters
    ----------
    given : mapping of str to array-like or None
        By part, such as ``"training"``: a mask of booleans or of zeros and ones ``[N]``, or ids of nodes ``[M]``. A
        further dimension of length 1 is dropped, and so is the tuple that ``numpy.where(mask)`` returns. Several
        splits are masks ``[N, K]`` or ``[K, N]``, or a list of K arrays.
    ids : NodeIds
        The own ids of all N nodes.
    problems : list of str
        Problems are appended.
    split_index : int, optional
        Which of K splits to use; a negative number counts from the last.
    """
    parts: dict[str, Tensor | None] = dict.fromkeys(given)
    splits: dict[str, int] = {}
    for part, values in given.items():
        if values is None:
            continue
        try:
            vector, splits[part] = _one_split(values, part, len(ids), split_index)
            parts[part] = _positions(vector, part, ids)
        except DataError as error:
            problems.append(error.as_problem())
    several = {part: count for part, count in splits.items() if count > 1}
    if len(set(several.values())) > 1:
        problems.append(
            f"the numbers of splits differ: {', '.join(f'{count} of {part}' for part, count in several.items())} nodes."
        )
    if split_index is not None and len(splits) == len(given) and not several:
        problems.append(f"split_index is {split_index}, but the masks hold one split; leave it out.")
    return parts


def _one_split(values: Any, part: str, num_nodes: int, split_index: int | None) -> tuple[np.ndarray, int]:
    """Return the mask or the ids of one split, one-dimensional, and the number of splits."""
    what = f"the {part} nodes"
    if isinstance(values, (list, tuple)) and values and all(_is_vector(each) for each in values):
        if isinstance(values, tuple) and len(values) == 1:
            return as_array(values[0], what), 1
        vectors = [as_array(each, what) for each in values]
        if isinstance(values, tuple) and len(values) == 2 and not any(len(each) == num_nodes for each in vectors):
            raise DataError(
                f"{what} are a tuple of two arrays, as `numpy.where` returns for a mask of two dimensions.",
                hint="Pass the mask itself, or one column of it: `mask[:, 0]`.",
            )
        if len(vectors) > 1:
            return vectors[_index(what, len(vectors), "arrays", split_index)], len(vectors)
    array = as_array(values, what)
    if array.ndim > 1 and sum(length != 1 for length in array.shape) <= 1:
        array = array.reshape(-1)
    if array.ndim == 1:
        return array, 1
    if array.ndim != 2 or num_nodes not in array.shape:
        raise DataError(
            f"{what} have shape {array.shape}; expected a mask [{num_nodes}], several masks [{num_nodes}, K], or a "
            "vector of node ids."
        )
    # If both sides have N entries, masks are columns.
    masks = array.T if array.shape[0] == num_nodes else array
    chosen: np.ndarray = masks[_index(what, len(masks), "masks", split_index)]
    return chosen, len(masks)


def _index(what: str, count: int, kind: str, split_index: int | None) -> int:
    if split_index is None or not -count <= split_index < count:
        given = "" if split_index is None else f", and split_index is {split_index}"
        raise DataError(
            f"{what} have {count} {kind}{given}; choose one of them with `split_index`, 0 to {count - 1} "
            "(`dataset.split_index` of a file)."
        )
    return split_index


def _is_vector(values: Any) -> bool:
    return isinstance(values, (np.ndarray, Tensor)) and values.ndim == 1


def _positions(vector: np.ndarray, part: str, ids: NodeIds) -> Tensor:
    mask = _as_mask(vector, part, ids)
    if mask is not None:
        found = torch.from_numpy(np.flatnonzero(mask))
    else:
        found, counts = torch.unique(ids.positions(vector, what=f"the {part} nodes"), return_counts=True)
        if bool((counts > 1).any()):
            raise DataError(f"the {part} nodes contain {name_nodes(found[counts > 1], ids)} more than once.")
    if not len(found):
        raise DataError(f"there are no {part} nodes: the mask is empty.")
    return found


def _as_mask(vector: np.ndarray, part: str, ids: NodeIds) -> np.ndarray | None:
    """Return the mask, bool ``[N]``; None if the values are node ids."""
    if vector.dtype.kind not in "buifO" or not len(vector):
        return None
    missing = np.zeros(len(vector), dtype=bool)
    if vector.dtype.kind in "fO":
        missing = np.array([is_missing(value) for value in vector], dtype=bool)
    known = vector[~missing]
    if vector.dtype.kind == "O" and not all(isinstance(value, (bool, np.bool_, int, float)) for value in known):
        return None
    booleans = vector.dtype.kind == "b" or all(isinstance(value, (bool, np.bool_)) for value in known)
    # Masks that are images have 255 for true.
    true = 255 if vector.dtype == np.uint8 and bool((known == 255).any()) else 1
    if not bool(((known == 0) | (known == true)).all()):
        return None
    # Ids are unique: more than one 0 and one 1 are a mask.
    if not booleans and len(vector) != len(ids) and len(vector) <= 2:
        return None
    if len(vector) != len(ids):
        raise DataError(f"the {part} mask has {len(vector)} entries; the graph has {len(ids)} nodes.")
    if missing.any():
        raise DataError(
            f"the {part} mask has NaN or no value at {name_nodes(torch.from_numpy(np.flatnonzero(missing)), ids)}; "
            "expected true or false.",
            hint="`pandas.Series(mask).eq(True)` leaves these nodes out.",
        )
    found: np.ndarray = vector.astype(bool)
    return found

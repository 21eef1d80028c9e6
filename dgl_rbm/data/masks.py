"""Training, validation and test nodes of a user's graph: masks of every form, positions, and the nodes' own ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array, id_array
from dgl_rbm.rows.node_ids import NodeIds

__all__ = ["read_nodes"]

_SHOWN = 5


def read_nodes(
    values: Any, part: str, ids: NodeIds, problems: list[str], *, split_index: int | None = None
) -> Tensor | None:
    """Return the positions of the nodes of a part, int64, ascending; None, and a problem, if they cannot be read.

    Parameters
    ----------
    values : array-like
        A mask of booleans or of zeros and ones ``[N]`` or ``[N, 1]``; several masks, ``[N, K]`` or ``[K, N]``; or the
        own ids of nodes, as an array or as the result of ``numpy.where(mask)``.
    part : str
        Name of the part in problems: ``"training"``.
    ids : NodeIds
        The own ids of all N nodes.
    problems : list of str
        Problems are appended.
    split_index : int, optional
        Which of K masks to use.
    """
    count = len(problems)
    try:
        if isinstance(values, tuple) and len(values) == 1 and np.ndim(values[0]) == 1:
            values = values[0]
        array = _chosen(as_array(values, f"the {part} nodes"), part, len(ids), problems, split_index)
        if array is None:
            return None
        mask = _as_mask(array, part, len(ids), problems)
        if len(problems) > count:
            return None
        found = torch.from_numpy(np.flatnonzero(mask)) if mask is not None else _of_ids(array, part, ids, problems)
    except DataError as error:
        problems.append(f"{error.as_problem()} Expected a mask [{len(ids)}] or node ids.")
        return None
    if found is not None and not len(found):
        problems.append(f"there are no {part} nodes: the mask is empty.")
        return None
    return found


def _chosen(
    array: np.ndarray, part: str, num_nodes: int, problems: list[str], split_index: int | None
) -> np.ndarray | None:
    """Return one vector of an array of one or several masks."""
    if array.ndim == 2 and 1 in array.shape and num_nodes in array.shape:
        array = array.reshape(-1)
    if array.ndim == 1:
        return array
    if array.ndim != 2 or num_nodes not in array.shape:
        problems.append(
            f"the {part} nodes have shape {array.shape}; expected a mask [{num_nodes}], several masks "
            f"[{num_nodes}, K], or a vector of node ids."
        )
        return None
    # If both sides have N entries, masks are columns.
    masks = array.T if array.shape[0] == num_nodes else array
    if split_index is None or not -len(masks) <= split_index < len(masks):
        given = "" if split_index is None else f", and split_index is {split_index}"
        problems.append(
            f"the {part} nodes have {len(masks)} masks{given}; choose one of them with `split_index`, 0 to "
            f"{len(masks) - 1} (`dataset.split_index` of a file)."
        )
        return None
    chosen: np.ndarray = masks[split_index]
    return chosen


def _as_mask(array: np.ndarray, part: str, num_nodes: int, problems: list[str]) -> np.ndarray | None:
    """Return the mask, bool ``[N]``; None for node ids, or if a problem was found."""
    if array.dtype.kind == "O" and len(array) and all(isinstance(value, (bool, np.bool_)) for value in array):
        array = array.astype(bool)
    if array.dtype.kind == "f" and np.isnan(array).any():
        missing = np.flatnonzero(np.isnan(array))
        problems.append(
            f"the {part} mask is NaN at {_named(missing)}; expected zeros and ones. `mask == 1` leaves these out."
        )
        return None
    if array.dtype.kind not in "biuf" or (array.dtype.kind != "b" and not bool(((array == 0) | (array == 1)).all())):
        return None
    # Vectors of node ids contain each node once: more than one 0 and one 1 are a mask.
    if array.dtype.kind != "b" and len(array) != num_nodes and len(array) <= 2:
        return None
    if len(array) != num_nodes:
        problems.append(f"the {part} mask has {len(array)} entries; the graph has {num_nodes} nodes.")
        return None
    found: np.ndarray = array.astype(bool)
    return found


def _of_ids(array: np.ndarray, part: str, ids: NodeIds, problems: list[str]) -> Tensor | None:
    wanted = id_array(array, f"the {part} nodes")
    positions = ids.positions(wanted, what=f"the {part} nodes", missing="mark")
    unknown = wanted[(positions < 0).numpy()]
    if len(unknown):
        own = f"the graph's nodes are 0 to {len(ids) - 1}" if ids.are_positions else "the graph has no such ids"
        problems.append(f"the {part} nodes contain {_named(unknown)}, but {own}.")
        return None
    unique, counts = torch.unique(positions, return_counts=True)
    if len(unique) < len(positions):
        problems.append(f"the {part} nodes contain {_named(ids.at(unique[counts > 1]))} more than once.")
        return None
    return unique


def _named(ids: np.ndarray) -> str:
    shown = ", ".join(str(node) for node in ids[:_SHOWN].tolist())
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"node{'s' if len(ids) > 1 else ''} {shown}{more}"

"""Edge weights of a user's graph: found by name, checked, and named if they are not used."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from dgl_rbm.data.tables import listed
from dgl_rbm.errors import DataError, closest
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.neighbor_weights import LARGEST_WEIGHT

__all__ = ["check_weights", "find_weights"]

# Edge field of the weights that is used if none is named.
_DEFAULT_FIELD = "weight"


def find_weights(graph: Any, given: Any, problems: list[str], notes: list[str]) -> Any:
    """Return the edge weights of a graph, in the order of ``graph.edges()``; None without any.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous.
    given : str, array-like, False or None
        Name of an edge field, or the weights themselves; None for the field ``weight`` if there is one; empty text,
        ``"none"`` or False for no weights.
    problems : list of str
        Problems are appended.
    notes : list of str
        A sentence on weights that nobody asked for, and one on edge fields that are not used, are appended.
    """
    field, weights = _chosen(graph, given)
    if isinstance(field, str) and field not in graph.edata:
        near = closest(field, sorted(graph.edata))
        guess = f" Did you mean '{near}'?" if near else ""
        problems.append(
            f"there is no edge field '{field}' for the weights.{guess} The graph has: {listed(sorted(graph.edata))}."
        )
        return None
    if field is not None:
        weights = graph.edata[field]
        if given is None:
            notes.append(f"the edge field '{field}' contains the edge weights; `edge_weight=''` ignores it.")
    # Names with an underscore are DGL's own.
    unused = sorted(name for name in graph.edata if name != field and not name.startswith("_"))
    if unused:
        notes.append(f"these edge fields are not used: {', '.join(unused)}.")
    return weights


def _chosen(graph: Any, given: Any) -> tuple[str | None, Any]:
    """Return the name of the field, or None and the weights that are given as an array."""
    if given is None:
        return (_DEFAULT_FIELD if _DEFAULT_FIELD in graph.edata else None), None
    if isinstance(given, str):
        return (None if given == "" or (given == "none" and given not in graph.edata) else given), None
    return None, (None if given is False else given)


def check_weights(values: Any, num_edges: int, problems: list[str], notes: list[str]) -> np.ndarray | None:
    """Return edge weights as float32 ``[E]``; None, and a problem, unless they are finite numbers from 0 on.

    Parameters
    ----------
    values : array-like
        ``[E]`` or ``[E, 1]``.
    num_edges : int
        E.
    problems, notes : list of str
        Problems, and a note on edges of weight 0, are appended.
    """
    shape = _shape(values)
    if shape not in ((num_edges,), (num_edges, 1)):
        problems.append(
            f"the edge weights have shape {shape}; expected one number for each of the {num_edges} edges, in the "
            "order of `graph.edges()`."
        )
        return None
    try:
        rows = as_rows(values if len(shape) == 2 else _column(values), what="the edge weights")
    except DataError as error:
        problems.append(error.as_problem())
        return None
    weights = np.array(rows.to_dense().cpu().numpy(), dtype=np.float32).reshape(-1)
    for wrong, what, hint in (
        (~np.isfinite(weights), "not a finite number (as float32)", "remove the edge or give it a weight"),
        (weights < 0, "negative", "a weighted mean needs weights from 0 on; shift or scale them first"),
        (weights > LARGEST_WEIGHT, f"above {LARGEST_WEIGHT:g}", "divide all weights by a constant"),
    ):
        found = np.flatnonzero(wrong)
        if len(found):
            problems.append(
                f"the weight of edge {found[0]} is {weights[found[0]]:g}, {what}"
                f"{f'; so are {len(found) - 1} others' if len(found) > 1 else ''}: {hint}."
            )
            return None
    absent = int((weights == 0).sum())
    if absent:
        notes.append(f"{absent} of {num_edges} edges have the weight 0 and are left out.")
    return weights


def _shape(values: Any) -> tuple[int, ...]:
    shape = getattr(values, "shape", None)
    try:
        return tuple(np.shape(values) if shape is None else shape)
    except (TypeError, ValueError):
        return (len(values),) if isinstance(values, Collection) else ()


def _column(values: Any) -> Any:
    if hasattr(values, "to_frame"):
        return values.to_frame()
    return values[:, None] if hasattr(values, "shape") else [[value] for value in values]

"""Graphs from a table of nodes and a table of edges, which refers to the nodes by their own ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from dgl_rbm.data.cells import read_features, read_ids, read_labels, read_mask, read_weights
from dgl_rbm.data.tables import Table, listed, matching_names
from dgl_rbm.errors import DataError, closest
from dgl_rbm.rows.node_ids import NodeIds

__all__ = ["Columns", "TableGraph", "read_graph_tables"]

# The column of edge weights that is used if none is named.
DEFAULT_WEIGHT = "weight"

T = TypeVar("T")


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes
    ----------
    node_id, source, target : str
        Columns of the nodes' own ids, and of the ids at both ends of an edge.
    features : str, sequence of str, or None
        Columns of the features, or patterns such as ``feat_*``; None if they are given otherwise.
    label : str or None
        Column of the labels; None if they are not needed.
    masks : mapping of str to str
        Columns of the masks by part: ``"train"``, ``"val"`` and ``"test"``; empty if they are not needed.
    weight : str or None
        Column of the edge weights; None for the column ``weight`` if there is one, empty text for none.
    others : sequence of str
        Columns that are used otherwise.
    """

    node_id: str = "node_id"
    source: str = "src_id"
    target: str = "dst_id"
    features: str | Sequence[str] | None = "feat"
    label: str | None = "label"
    masks: Mapping[str, str] = field(default_factory=dict)
    weight: str | None = None
    others: Sequence[str] = ()


@dataclass(frozen=True)
class TableGraph:
    """Content of the tables.

    Attributes
    ----------
    ids : NodeIds
        The nodes' own ids.
    source, target : ndarray
        Positions of the ends of each edge, int64 ``[E]``.
    features : ndarray or None
        float32 ``[N, F]``.
    feature_names : tuple of str
        Columns of the features; empty if a cell contains several.
    labels : ndarray or None
        Integers or text ``[N]``.
    masks : list of ndarray
        Masks ``[N]`` or ``[N, K]``, in the order of `Columns.masks`.
    weight : ndarray or None
        float32 ``[E]``.
    notes : tuple of str
        What is not used.
    """

    ids: NodeIds
    source: np.ndarray
    target: np.ndarray
    features: np.ndarray | None
    feature_names: tuple[str, ...]
    labels: np.ndarray | None
    masks: list[Any]
    weight: np.ndarray | None
    notes: tuple[str, ...]


def read_graph_tables(
    nodes: Table, edges: Table, columns: Columns, problems: list[str], *, ascending: bool = False
) -> TableGraph | None:
    """Read the columns that are asked for; None, and problems, if something cannot be read.

    Parameters
    ----------
    nodes, edges : Table
        One row per node and per edge.
    columns : Columns
        Names of the columns.
    problems : list of str
        Problems are appended.
    ascending : bool
        Whether nodes with integer ids are put in ascending order; otherwise nodes have the order of the table.
    """
    before = len(problems)
    label = columns.label
    wanted = [columns.node_id, *columns.others, *([] if label is None else [label]), *columns.masks.values()]
    features = _attempt(problems, lambda: _feature_names(nodes, columns, wanted)) or []
    _attempt(problems, lambda: nodes.load([*wanted, *features]))
    if len(problems) > before:
        return None
    ids = _attempt(problems, lambda: _node_ids(nodes, columns.node_id))
    rows = _attempt(problems, lambda: read_features(nodes, features)) if features else None
    labels = None if label is None else _attempt(problems, lambda: read_labels(nodes, label))
    masks = [_mask(nodes, name, f"the {_PARTS[part]} mask", problems) for part, name in columns.masks.items()]
    if columns.masks and not any(name in nodes.names for name in columns.masks.values()):
        problems.append("without masks, give a split such as '20/30' or '0.6/0.2/0.2'.")
    ends = None if ids is None else _attempt(problems, lambda: _edges(edges, columns, ids, nodes))
    weight = _attempt(problems, lambda: _weights(edges, columns))
    if len(problems) > before or ids is None or ends is None:
        return None
    notes = [f"{edges.source} has no rows: the graph has no edges."] if not len(ends[0]) else []
    notes += _unused(nodes, [*wanted, *features])
    notes += _unused(edges, [columns.source, columns.target, *columns.others, _weight_name(edges, columns) or ""])
    order = np.argsort(ids.values, kind="stable") if ascending and not ids.is_text else np.arange(len(ids))
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return TableGraph(
        ids=NodeIds(ids.values[order]),
        source=position[ends[0]],
        target=position[ends[1]],
        features=None if rows is None else rows[order],
        # A column of several numbers per cell gives them no names.
        feature_names=tuple(features) if rows is not None and rows.shape[1] == len(features) else (),
        labels=None if labels is None else labels[order],
        masks=[None if mask is None else mask[order] for mask in masks],
        weight=weight,
        notes=tuple(notes),
    )


_PARTS = {"train": "training", "val": "validation", "test": "test"}


def _attempt(problems: list[str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except DataError as error:
        problems.append(error.as_problem())
        return None


def _feature_names(nodes: Table, columns: Columns, wanted: Sequence[str]) -> list[str]:
    if columns.features is None:
        return []
    return matching_names(columns.features, nodes.names, "features", nodes.source, excluded=[*wanted, ""])


def _node_ids(nodes: Table, name: str) -> NodeIds:
    values = read_ids(nodes, name)
    if not len(values):
        raise DataError(f"{nodes.source} has no rows; expected one per node.")
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[codes.reshape(-1)] != np.arange(len(values)))
    if len(repeated):
        row = int(repeated[0])
        original = int(first[codes.reshape(-1)[row]])
        raise nodes.error(name, row, f"is the id of {nodes.place(original)} too; expected one row per node")
    return NodeIds(values)


def _mask(nodes: Table, name: str, what: str, problems: list[str]) -> Any:
    return _attempt(problems, lambda: read_mask(nodes, name, what))


def _edges(edges: Table, columns: Columns, ids: NodeIds, nodes: Table) -> tuple[np.ndarray, np.ndarray]:
    name = _weight_name(edges, columns)
    edges.load([columns.source, columns.target, *([name] if name else [])])
    return _ends(edges, columns.source, ids, nodes), _ends(edges, columns.target, ids, nodes)


def _ends(edges: Table, name: str, ids: NodeIds, nodes: Table) -> np.ndarray:
    values = read_ids(edges, name, "the ends of edges", as_text=ids.is_text)
    if not len(values):
        return np.empty(0, dtype=np.int64)
    found: np.ndarray = ids.positions(values, missing="mark").numpy()
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        row = int(unknown[0])
        near = closest(str(values[row]), ids.values.tolist()) if ids.is_text and len(ids) <= 10_000 else None
        more = f"; neither are {len(unknown) - 1} others of this column" if len(unknown) > 1 else ""
        raise edges.error(
            name,
            row,
            f"is not the id of a node in {nodes.source}{more}",
            f"Did you mean '{near}'?" if near else "Add a row for each missing node, or remove its edges.",
        )
    return found


def _weight_name(edges: Table, columns: Columns) -> str | None:
    if columns.weight is not None:
        return columns.weight or None
    return DEFAULT_WEIGHT if DEFAULT_WEIGHT in edges.names else None


def _weights(edges: Table, columns: Columns) -> np.ndarray | None:
    name = _weight_name(edges, columns)
    if name is None:
        return None
    try:
        return read_weights(edges, name)
    except DataError as error:
        hint = error.hint if columns.weight else "`dataset.edge_weight=''` ignores this column."
        raise DataError(error.message, hint=hint) from None


def _unused(table: Table, used: Sequence[str]) -> list[str]:
    unused = [name or "without a name" for name in table.names if name not in used]
    if not unused:
        return []
    verb = "columns {} are" if len(unused) > 1 else "column {} is"
    return [f"{table.source}: {verb.format(listed(unused))} not used."]

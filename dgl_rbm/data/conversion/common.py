"""What the conversions share: options, edges as positions of nodes, and the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch

from dgl_rbm.data.base import LabeledGraph, NormalizationKind
from dgl_rbm.data.build import build_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.errors import DataError, closest
from dgl_rbm.rows.checked import id_array
from dgl_rbm.rows.node_ids import NodeIds

__all__ = ["OPTIONS", "TaskArguments", "graph_of", "positions_of_ends", "task_of", "unknown_field"]


class TaskArguments(TypedDict, total=False):
    """Options of `dgl_rbm.make_task` that all conversions take."""

    name: str
    train: Any
    val: Any
    test: Any
    split: str | None
    setting: Setting
    unseen_fraction: float | None
    normalize: NormalizationKind
    rescale: bool
    symmetrize: bool
    seed: int
    num_classes: int | None
    classes: Sequence[int | str] | None
    split_index: int | None
    allow_missing_classes: bool


OPTIONS = tuple(TaskArguments.__annotations__)

# Fields of `LabeledGraph` that an option sets, by its name; the others are options of `build_task`.
_OF_GRAPH = {
    "name": "name",
    "train": "train_idx",
    "val": "val_idx",
    "test": "test_idx",
    "normalize": "normalize",
    "num_classes": "num_classes",
    "classes": "classes",
    "split_index": "split_index",
    "allow_missing_classes": "allow_missing_classes",
}


def task_of(options: TaskArguments, **parts: Any) -> NodeTask:
    """Return the task of a graph.

    Parameters
    ----------
    options : TaskArguments
        Of the caller. Masks among them replace those in `parts`; a split replaces both.
    **parts
        Fields of `LabeledGraph`; `name` by default ``"graph"``.
    """
    values: dict[str, Any] = {"name": "graph", "setting": "transductive", "seed": 0, **options}
    given = {_OF_GRAPH[name]: values.pop(name) for name in _OF_GRAPH if name in values}
    if any(given.get(part) is not None for part in ("train_idx", "val_idx", "test_idx")):
        parts |= dict.fromkeys(("train_idx", "val_idx", "test_idx"))
    return build_task(LabeledGraph(**(parts | given)), **values)


def graph_of(source: np.ndarray, target: np.ndarray, count: int) -> Any:
    """Return the DGL graph of edges between the positions of `count` nodes."""
    ends = [torch.from_numpy(np.array(end, dtype=np.int64)) for end in (source, target)]
    return dgl.graph((ends[0], ends[1]), num_nodes=count)


def positions_of_ends(source: Any, target: Any, ids: NodeIds) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the ends of edges, int64 ``[E]``.

    Raises
    ------
    DataError
        If the ends are no ids, differ in number, or one is not among the nodes; names the edge.
    """
    ends = [id_array(end, f"the {what} of the edges") for end, what in ((source, "sources"), (target, "targets"))]
    if len(ends[0]) != len(ends[1]):
        raise DataError(f"The edges have {len(ends[0])} sources and {len(ends[1])} targets; expected the same number.")
    found = [
        ids.positions(end, what=f"the {what} of the edges", missing="mark").numpy() if len(end) else end[:0]
        for end, what in zip(ends, ("sources", "targets"), strict=True)
    ]
    for end, positions in zip(ends, found, strict=True):
        unknown = np.flatnonzero(positions < 0)
        if len(unknown):
            edge = int(unknown[0])
            first, second, wanted = (values[edge : edge + 1].tolist()[0] for values in (*ends, end))
            more = f" ({len(unknown)} edges have such ends)" if len(unknown) > 1 else ""
            raise DataError(
                f"Edge {edge}, {first!r} to {second!r}: there is no node {wanted!r}{more}.",
                hint=f"The {len(ids)} nodes have the ids 0 to {len(ids) - 1}; `node_ids` sets others."
                if ids.are_positions
                else "Ends of edges are ids of nodes, of the same type.",
            )
    return found[0].astype(np.int64), found[1].astype(np.int64)


def unknown_field(what: str, name: str, known: Sequence[str], kind: str) -> DataError:
    """Return the error for a missing attribute of nodes or edges, with the nearest name."""
    near = closest(name, known)
    guess = f" Did you mean '{near}'?" if near else ""
    return DataError(f"There is no {kind} '{name}' for the {what}.{guess} There are: {', '.join(known) or 'none'}.")

"""Checks of graphs, features, labels and splits; all problems are collected and reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import DataError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.node_ids import NodeIds, name_nodes
from dgl_rbm.rows.sparse import Rows, rows_not_finite

__all__ = [
    "check_features",
    "check_split",
    "graph_problems",
]


def graph_problems(graph: Any) -> list[str]:
    """Return why `graph` is not a homogeneous DGL graph with nodes; an empty list if it is one."""
    if not isinstance(graph, dgl.DGLGraph):
        return [
            f"the graph is a {type(graph).__name__}, not a dgl.DGLGraph; `dgl.graph((source, destination))` makes one."
        ]
    if graph.is_block or len(graph.ntypes) != 1 or len(graph.etypes) != 1:
        return [
            f"the graph is heterogeneous (node types {', '.join(graph.ntypes)}; edge types "
            f"{', '.join(graph.etypes)}); expected one type of each. `dgl.to_homogeneous` or "
            "`graph[(source_type, edge_type, destination_type)]` gives such a graph."
        ]
    return [] if graph.num_nodes() else ["the graph has no nodes."]


def check_features(values: Any, num_nodes: int | None, problems: list[str], ids: NodeIds | None = None) -> Rows | None:
    """Return the features as float32 rows on the CPU; None if they are not finite numbers ``[N, F]``."""
    try:
        rows = as_rows(values).to("cpu")
    except DataError as error:
        problems.append(error.as_problem())
        return None
    count = len(problems)
    if num_nodes is not None and rows.shape[0] != num_nodes:
        problems.append(f"the features have {rows.shape[0]} rows; the graph has {num_nodes} nodes.")
    if rows.shape[1] == 0:
        problems.append("the features have no columns.")
    wrong = rows_not_finite(rows)
    if len(wrong):
        problems.append(f"the features of {name_nodes(wrong, ids)} are NaN or infinite (as float32).")
    return rows if len(problems) == count else None


def check_split(
    parts: Mapping[str, Tensor | None],
    labels: Tensor | None,
    classes: Sequence[int | str],
    problems: list[str],
    *,
    ids: NodeIds | None = None,
    allow_missing_classes: bool = False,
) -> None:
    """Check that the parts are disjoint and labelled, and that each class has a training node.

    Parameters
    ----------
    parts : mapping of str to Tensor or None
        Nodes by part, ``"training"`` among them; None for a part with a problem that is already reported.
    labels : Tensor or None
        Class numbers, int64 ``[N]``.
    classes : sequence of int or str
        Names of the class numbers.
    problems : list of str
        Problems are appended.
    ids : NodeIds, optional
        Names of the nodes in messages.
    allow_missing_classes : bool
        Whether a class may have no training node.
    """
    found = [(name, nodes) for name, nodes in parts.items() if nodes is not None]
    for position, (name, nodes) in enumerate(found):
        for other, other_nodes in found[:position]:
            shared = nodes[torch.isin(nodes, other_nodes)]
            if len(shared):
                problems.append(f"the {other} and the {name} nodes overlap in {name_nodes(shared, ids)}.")
    if labels is None:
        return
    for name, nodes in found:
        unlabelled = nodes[labels[nodes] < 0]
        if len(unlabelled):
            problems.append(f"the {name} nodes include {name_nodes(unlabelled, ids)} without label.")
    training = parts.get("training")
    if training is None or allow_missing_classes:
        return
    known = labels[training]
    sizes = torch.bincount(known[known >= 0], minlength=len(classes))
    missing = [classes[number] for number in (sizes == 0).nonzero().squeeze(1).tolist()]
    if missing:
        named = (
            f"the classes 0 to {len(classes) - 1}" if tuple(classes) == tuple(range(len(classes))) else "the classes"
        )
        problems.append(
            f"no training node is of class {', '.join(map(str, missing[:10]))}"
            f"{' and others' if len(missing) > 10 else ''} of {named}; "
            "`allow_missing_classes=True` accepts that (`dataset.allow_missing_classes` of a file)."
        )

"""Tasks from the graphs of networkx, which need not be installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Unpack

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.data.conversion.common import OPTIONS, TaskArguments, graph_of, task_of, unknown_field
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import DataError, shown

__all__ = ["from_networkx"]

_MASKS = ("train_mask", "val_mask", "test_mask")
_WEIGHT = "weight"


@checked_arguments("from_networkx", OPTIONS)
def from_networkx(
    graph: Any,
    *,
    features: Any = "feat",
    label: str = "label",
    weight: str | None = None,
    **options: Unpack[TaskArguments],
) -> NodeTask:
    """Make a task from a networkx graph, whose nodes keep their names as ids.

    Parameters
    ----------
    graph : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
        Each edge of an undirected graph stands for both directions. Nodes that are neither integers nor text, such as
        pairs, have their text as id: ``"(0, 1)"``.
    features : str, sequence of str, or array-like
        A node attribute of numbers or of vectors; several, side by side; or an array ``[N, F]`` in the order of
        ``graph.nodes``.
    label : str
        Node attribute of the classes; a node without it has no label.
    weight : str, optional
        Edge attribute of the weights; by default ``"weight"``, if an edge has it, and empty text for no weights. An
        edge without the attribute has the weight 1, as in networkx.
    **options
        As for `from_arrays`. Without `split`, the node attributes `train_mask`, `val_mask` and `test_mask` are used.

    Raises
    ------
    DataError, ConfigError
        As for `from_arrays`; also if a node lacks an attribute.

    Examples
    --------
    >>> import networkx as nx, numpy as np
    >>> from dgl_rbm import from_networkx
    >>> graph = nx.cycle_graph(12)
    >>> nx.set_node_attributes(graph, {node: "even" if node % 2 == 0 else "odd" for node in graph}, "parity")
    >>> task = from_networkx(graph, features=np.eye(12), label="parity", split="2/2")
    >>> task.classes
    ('even', 'odd')
    """
    if not all(hasattr(graph, name) for name in ("nodes", "edges", "is_directed", "is_multigraph")):
        raise DataError(
            f"graph is a {type(graph).__name__}; expected a networkx graph.",
            hint="`dgl_rbm.task_from_graph` takes DGL graphs, `dgl_rbm.from_arrays` arrays.",
        )
    nodes = dict(graph.nodes(data=True))
    if not nodes:
        raise DataError("The graph has no nodes.")
    known = sorted({str(name) for attributes in nodes.values() for name in attributes})
    notes: list[str] = []
    used = {label, *_MASKS}
    rows: Any = features
    if isinstance(features, str) or (isinstance(features, (list, tuple)) and features and _are_text(features)):
        names = [features] if isinstance(features, str) else list(features)
        rows = np.concatenate([_numbers(nodes, name, known) for name in names], axis=1)
        used.update(names)
    if label not in known:
        raise unknown_field("labels", label, known, "node attribute")
    masks = [_mask(nodes, mask) if options.get("split") is None else None for mask in _MASKS]
    unused = [name for name in known if name not in used]
    if unused:
        notes.append(f"the node attributes {', '.join(unused)} are not used.")
    source, target, weights = _edges(graph, {node: i for i, node in enumerate(nodes)}, weight, notes)
    return task_of(
        options,
        graph=graph_of(source, target, len(nodes)),
        features=rows,
        labels=[attributes.get(label) for attributes in nodes.values()],
        train_idx=masks[0],
        val_idx=masks[1],
        test_idx=masks[2],
        edge_weight=weights,
        node_ids=_ids(list(nodes), notes),
        notes=tuple(notes),
    )


def _are_text(names: Sequence[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _ids(nodes: list[Any], notes: list[str]) -> list[Any]:
    is_integer = all(isinstance(node, (int, np.integer)) and not isinstance(node, bool) for node in nodes)
    if is_integer or _are_text(nodes):
        return nodes
    notes.append(f"the ids of the nodes are their text, such as {str(nodes[0])!r}.")
    return [str(node) for node in nodes]


def _numbers(nodes: dict[Any, Any], name: str, known: list[str]) -> np.ndarray:
    """Return an attribute of all nodes as float32 ``[N, F]``."""
    if name not in known:
        raise unknown_field("features", name, known, "node attribute")
    vectors, width = [], None
    for node, attributes in nodes.items():
        if attributes.get(name) is None:
            raise DataError(f"The node {node!r} has no attribute '{name}'; expected a number or a vector.")
        vector = _vector(attributes[name])
        if vector is None:
            raise DataError(
                f"The node {node!r}, attribute '{name}': {shown(attributes[name])} is not a number or a vector of "
                "numbers."
            )
        width = len(vector) if width is None else width
        if len(vector) != width:
            raise DataError(
                f"The node {node!r}, attribute '{name}' has {len(vector)} numbers; those of other nodes have {width}."
            )
        vectors.append(vector)
    return np.stack(vectors)


def _vector(value: Any) -> np.ndarray | None:
    """Return a number or a vector as float32 ``[F]``; None for anything else."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return array.reshape(-1).astype(np.float32) if array.dtype.kind in "biuf" else None


def _mask(nodes: dict[Any, Any], name: str) -> np.ndarray | None:
    """Return the mask of an attribute, False for nodes without it; None if no node has it."""
    values = [attributes.get(name) for attributes in nodes.values()]
    if all(value is None for value in values):
        return None
    return np.array([False if value is None else value for value in values])


def _edges(
    graph: Any, position: dict[Any, int], weight: str | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return sources, targets and weights; of an undirected graph, every edge but self-loops in both directions."""
    edges = list(graph.edges(data=True))
    source = np.array([position[u] for u, _, _ in edges], dtype=np.int64)
    target = np.array([position[v] for _, v, _ in edges], dtype=np.int64)
    weights = _weights(edges, weight, notes)
    if not graph.is_directed():
        proper = source != target
        source, target = np.concatenate([source, target[proper]]), np.concatenate([target, source[proper]])
        weights = None if weights is None else np.concatenate([weights, weights[proper]])
    return source, target, weights


def _weights(edges: list[Any], weight: str | None, notes: list[str]) -> np.ndarray | None:
    name = _WEIGHT if weight is None else weight
    if not name:
        return None
    missing = sum(attributes.get(name) is None for _, _, attributes in edges)
    if missing == len(edges):
        if weight is not None and edges:
            known = sorted({str(each) for _, _, attributes in edges for each in attributes})
            raise unknown_field("weights", name, known, "edge attribute")
        return None
    if missing:
        notes.append(f"{missing} of {len(edges)} edges have no attribute '{name}'; their weight is 1.")
    values = []
    for u, v, attributes in edges:
        value = attributes.get(name)
        try:
            values.append(1.0 if value is None else float(value))
        except (TypeError, ValueError):
            raise DataError(f"The edge {u!r} to {v!r}, attribute '{name}': {value!r} is not a number.") from None
    return np.array(values)

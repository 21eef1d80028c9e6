"""Tasks from the graphs of PyTorch Geometric, which need not be installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.data.conversion.common import (
    OPTIONS,
    TaskArguments,
    graph_of,
    positions_of_ends,
    task_of,
    unknown_field,
)
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import DataError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.node_ids import NodeIds

__all__ = ["from_pyg"]

_MASKS = ("train_mask", "val_mask", "test_mask")


@checked_arguments("from_pyg", OPTIONS)
def from_pyg(
    data: Any, *, features: str = "x", label: str = "y", node_ids: Any = None, **options: Unpack[TaskArguments]
) -> NodeTask:
    """Make a task from a `torch_geometric.data.Data`.

    Parameters
    ----------
    data : Data
        With `edge_index` ``[2, E]`` or `adj_t`. `edge_weight`, or one number per edge in `edge_attr`, are edge weights.
        The masks `train_mask`, `val_mask` and `test_mask` are used unless `split` is given; of masks ``[N, K]``,
        `split_index` chooses one.
    features, label : str
        Attributes of the features ``[N, F]`` and the classes ``[N]``.
    node_ids : array-like, optional
        The nodes' own ids, integers or text ``[N]``; 0 to N − 1 by default.
    **options
        As for `from_arrays`.

    Raises
    ------
    DataError, ConfigError
        As for `from_arrays`; also if an attribute is missing or the graph is heterogeneous.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace
    >>> from dgl_rbm import from_pyg
    >>> nodes = torch.arange(12)
    >>> edge_index = torch.stack([nodes, (nodes + 1) % 12])
    >>> data = SimpleNamespace(x=torch.eye(12), y=nodes % 2, edge_index=edge_index)
    >>> from_pyg(data, split="2/2").graph.num_edges()
    12
    """
    if getattr(data, "node_types", None) is not None:
        raise DataError(
            f"data is a {type(data).__name__}, a heterogeneous graph; expected one type of nodes and edges.",
            hint="`data.to_homogeneous()` merges the types.",
        )
    names = _names(data)
    if "edge_index" not in names and "adj_t" not in names:
        hint = "Of a dataset of PyG, pass its graph: `dgl_rbm.from_pyg(dataset[0])`."
        raise DataError(f"data is a {type(data).__name__} without edge_index; expected a PyG Data.", hint=hint)
    for name, what in ((features, "features"), (label, "labels")):
        if name not in names:
            raise unknown_field(what, name, names, "attribute")
    rows = as_rows(getattr(data, features))
    count = rows.shape[0]
    source, target, weights, notes = _edges(data, names)
    source, target = positions_of_ends(source, target, NodeIds.of(None, count))
    masks = [getattr(data, mask, None) if options.get("split") is None else None for mask in _MASKS]
    return task_of(
        options,
        graph=graph_of(source, target, count),
        features=rows,
        labels=getattr(data, label),
        train_idx=masks[0],
        val_idx=masks[1],
        test_idx=masks[2],
        edge_weight=weights,
        node_ids=node_ids,
        notes=notes,
    )


def _names(data: Any) -> list[str]:
    """Return the names of the attributes that are set."""
    keys = getattr(data, "keys", None)
    # A property in PyG before version 2.4.
    found = (
        (keys() if callable(keys) else keys) if keys is not None else vars(data) if hasattr(data, "__dict__") else ()
    )
    return sorted(name for name in map(str, found) if getattr(data, name, None) is not None)


def _edges(data: Any, names: list[str]) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """Return sources, targets, weights or None, and notes."""
    if "edge_index" not in names:
        # Transposed: a row is a target.
        target, source, weights = _entries(data.adj_t)
        return source, target, weights, ()
    edges = data.edge_index
    if getattr(edges, "ndim", 0) != 2 or edges.shape[0] != 2:
        raise DataError(f"data.edge_index has shape {tuple(getattr(edges, 'shape', ()))}; expected [2, E].")
    if "edge_weight" in names:
        return edges[0], edges[1], data.edge_weight, ()
    attribute = getattr(data, "edge_attr", None)
    if attribute is None:
        return edges[0], edges[1], None, ()
    if attribute.ndim == 1 or attribute.shape[1:] == (1,):
        note = "edge_attr, one number per edge, contains the edge weights."
        return edges[0], edges[1], attribute.reshape(-1), (note,)
    note = f"edge_attr, of shape {tuple(attribute.shape)}, is not used; edge weights are one number per edge."
    return edges[0], edges[1], None, (note,)


def _entries(matrix: Any) -> tuple[Any, Any, Any]:
    """Return rows, columns and values of a sparse tensor of PyTorch or of torch_sparse."""
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        entries = matrix.to_sparse_coo().coalesce()
        rows, columns = entries.indices()
        values = entries.values()
        return rows, columns, None if bool((values == 1).all()) else values
    if callable(getattr(matrix, "coo", None)):
        rows, columns, values = matrix.coo()
        return rows, columns, values
    raise DataError(f"data.adj_t is a {type(matrix).__name__}; expected a sparse tensor.")

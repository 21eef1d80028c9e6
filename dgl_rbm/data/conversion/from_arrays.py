"""Tasks from arrays of edges, features and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.data.conversion.common import OPTIONS, TaskArguments, graph_of, positions_of_ends, task_of
from dgl_rbm.data.files import map_features
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import as_array
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.node_ids import NodeIds

__all__ = ["from_arrays"]


@checked_arguments("from_arrays", OPTIONS)
def from_arrays(
    edges: Any,
    features: Any,
    labels: Any,
    *,
    weight: Any = None,
    node_ids: Any = None,
    **options: Unpack[TaskArguments],
) -> NodeTask:
    """Make a task from arrays.

    Parameters
    ----------
    edges : tuple of array-like, or array-like
        A tuple of sources and targets ``[E]``, or both in an array ``[2, E]`` or ``[E, 2]``: ids of nodes, along which
        messages flow from source to target. For undirected edges that are listed once, pass ``symmetrize=True``.
    features : array-like or path
        Numbers ``[N, F]``, as for `make_task`.
    labels : array-like
        Classes ``[N]``, as for `make_task`.
    weight : array-like, optional
        Weights of the edges ``[E]``.
    node_ids : array-like, optional
        The nodes' own ids, integers or text ``[N]``, in the order of the features; 0 to N − 1 by default.
    **options
        As for `make_task`: `name`, `train`, `val`, `test`, `split`, `setting`, `unseen_fraction`, `normalize`,
        `rescale`, `symmetrize`, `seed`, `num_classes`, `classes`, `split_index`, `allow_missing_classes`.

    Raises
    ------
    DataError
        If anything cannot be used, such as an edge to an unknown node.
    ConfigError
        If an option is unknown or has an invalid value.

    Examples
    --------
    >>> import numpy as np
    >>> from dgl_rbm import from_arrays
    >>> source, target = np.arange(12), (np.arange(12) + 1) % 12
    >>> task = from_arrays((source, target), np.eye(12), np.arange(12) % 2, split="2/2", symmetrize=True)
    >>> task.graph.num_edges()
    24
    """
    rows = as_rows(map_features(Path(features).expanduser()) if isinstance(features, (str, Path)) else features)
    ids = NodeIds.of(node_ids, rows.shape[0])
    source, target = positions_of_ends(*_ends(edges), ids)
    graph = graph_of(source, target, len(ids))
    return task_of(options, graph=graph, features=rows, labels=labels, edge_weight=weight, node_ids=ids.values)


def _ends(edges: Any) -> tuple[Any, Any]:
    if isinstance(edges, tuple) and len(edges) == 2:
        return edges
    array = as_array(edges, "edges")
    if array.ndim == 1 and not len(array):
        return array, array
    if array.ndim != 2 or 2 not in array.shape:
        raise DataError(
            f"edges has shape {array.shape}; expected [2, E] or [E, 2].", hint="Pass a tuple: edges=(source, target)."
        )
    if array.shape == (2, 2):
        raise DataError(
            "edges has shape (2, 2), which fits both [2, E] and [E, 2].", hint="Pass a tuple: edges=(source, target)."
        )
    first, second = array if array.shape[0] == 2 else np.swapaxes(array, 0, 1)
    return first, second

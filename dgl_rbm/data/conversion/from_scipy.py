"""Tasks from an adjacency matrix of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from typing_extensions import Unpack

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.data.conversion.common import OPTIONS, TaskArguments, graph_of, task_of
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import DataError

__all__ = ["from_scipy"]


@checked_arguments("from_scipy", OPTIONS)
def from_scipy(
    adjacency: Any, features: Any, labels: Any, *, node_ids: Any = None, **options: Unpack[TaskArguments]
) -> NodeTask:
    """Make a task from an adjacency matrix.

    Parameters
    ----------
    adjacency : scipy.sparse matrix or array, or ndarray
        ``[N, N]``: an entry in row u and column v is an edge from u to v. Values other than 1 are edge weights; zeros
        are no edges. Of a symmetric matrix, both directions are edges.
    features : array-like or path
        Numbers ``[N, F]``, as for `make_task`.
    labels : array-like
        Classes ``[N]``, as for `make_task`.
    node_ids : array-like, optional
        The nodes' own ids, integers or text ``[N]``; 0 to N − 1 by default.
    **options
        As for `from_arrays`.

    Raises
    ------
    DataError, ConfigError
        As for `from_arrays`.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from dgl_rbm import from_scipy
    >>> ring = sp.csr_matrix(np.roll(np.eye(12), 1, axis=1))
    >>> from_scipy(ring + ring.T, np.eye(12), np.arange(12) % 2, split="2/2").graph.num_edges()
    24
    """
    is_dense = isinstance(adjacency, np.ndarray) and adjacency.ndim == 2 and adjacency.dtype.kind in "biuf"
    if not sp.issparse(adjacency) and not is_dense:
        raise DataError(
            f"adjacency is a {type(adjacency).__name__}; expected a SciPy sparse matrix of numbers.",
            hint="`dgl_rbm.from_arrays((source, target), features, labels)` takes a list of edges.",
        )
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise DataError(f"adjacency has shape {adjacency.shape}; expected [N, N], a row and a column per node.")
    # Repeated entries of a matrix are summed.
    edges = sp.coo_matrix(sp.csr_matrix(adjacency))
    kept = edges.data != 0
    weights = edges.data[kept]
    return task_of(
        options,
        graph=graph_of(edges.row[kept], edges.col[kept], adjacency.shape[0]),
        features=features,
        labels=labels,
        edge_weight=None if (weights == 1).all() else weights,
        node_ids=node_ids,
    )

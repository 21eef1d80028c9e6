"""Structure of a task's graph: edges in CSC format only, with ascending sources.

DGL creates other sparse formats of a graph on demand and caches them: COO takes another 16 bytes per edge, and as many
again for edge ids. The functions here use CSC alone (offsets of each node's in-edges, and their sources), which takes
8 bytes per edge in DGL and 4 elsewhere, and needs no edge ids.

Edge weights are the edge field `WEIGHT`, float32 ``[E]`` in CSC order; an unweighted graph has no such field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

__all__ = [
    "WEIGHT",
    "both_directions",
    "compressed",
    "compressed_with_weights",
    "from_compressed",
    "induced",
    "row_windows",
    "structure",
    "symmetrized",
]

# Edge field of a task's graph that contains its weights.
WEIGHT = "weight"
_EDGES_AT_ONCE = 2**23


def structure(graph: Any, weights: np.ndarray | None = None, *, share: bool = False) -> Any:
    """Return a new graph with only the nodes and edges of `graph`, in CSC format, on the CPU with int64 ids.

    Repeated edges and self-loops are kept; the order of the edges is not. `weights`, float32 ``[E]`` in the order of
    ``graph.edges()``, become the weights of the result; edges of weight 0 are left out. With `share`, a graph that
    already has this format shares its arrays with the result, which is safe if nothing else refers to it.
    """
    if weights is not None:
        indptr, sources, ordered = _weighted(graph, weights)
        kept = ordered != 0
        before = np.concatenate([[0], np.cumsum(kept)])
        return from_compressed(before[indptr], sources[kept], ordered[kept])
    if graph.formats()["created"] == ["csc"] and graph.idtype == torch.int64 and graph.device.type == "cpu":
        pointers, sources, _ = (part.numpy() for part in graph.adj_tensors("csc"))
        if all(_ascends(pointers, sources, *window) for window in row_windows(pointers)):
            return from_compressed(*((pointers, sources) if share else (pointers.copy(), sources.copy())))
    return from_compressed(*compressed(graph))


def compressed(graph: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets of each node's in-edges, int64 ``[N + 1]``, and their ascending sources ``[E]``.

    The sources are int32 if the number of nodes allows it. `graph` is not changed: no other format is cached in it.
    """
    count, created = graph.num_nodes(), graph.formats()["created"]
    if "csc" in created:
        pointers, sources, _ = (part.cpu().numpy() for part in graph.adj_tensors("csc"))
        return _sorted_rows(pointers.astype(np.int64), sources, count)
    if "coo" in created:
        source, destination = (part.cpu().numpy() for part in graph.edges())
        keys = destination.astype(np.int64)
    else:
        pointers, destination, _ = (part.cpu().numpy() for part in graph.adj_tensors("csr"))
        source = np.repeat(np.arange(count), np.diff(pointers))
        keys = destination.astype(np.int64)
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(destination, minlength=count), out=indptr[1:])
    # One number per edge, destination first, so that a single in-place sort suffices.
    keys *= count
    keys += source
    keys.sort()
    return indptr, _sources_of(keys, count)


def compressed_with_weights(graph: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the arrays of `compressed`, and the weight of each edge, float32 ``[E]``; None if `graph` has none."""
    if WEIGHT not in graph.edata:
        return (*compressed(graph), None)
    return _weighted(graph, graph.edata[WEIGHT].cpu().numpy())


def from_compressed(indptr: np.ndarray, sources: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Return the graph with these in-edges, int64, and their weights, float32, in CSC format only."""
    # Here and not above: the configs' base classes, which annotate with the task, must import without DGL.
    from dgl_rbm.data.dgl_compat import dgl

    parts = [np.asarray(part, dtype=np.int64) for part in (indptr, sources)]
    # torch does not accept read-only arrays.
    tensors = [torch.from_numpy(part if part.flags.writeable else part.copy()) for part in parts]
    # DGL's kernels that read edge fields (`copy_e`, and `u_mul_e` of one column) fail without explicit ids.
    ids = torch.arange(0 if weights is None else len(sources))
    graph = dgl.graph(("csc", (*tensors, ids)), num_nodes=len(indptr) - 1)
    if weights is not None:
        graph.edata[WEIGHT] = torch.from_numpy(weights)
    return graph


def both_directions(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the CSC arrays of an undirected graph from edges that are given once.

    Parameters
    ----------
    keys : ndarray
        ``smaller end * count + larger end`` of each edge, int64, strictly ascending.
    count : int
        Number of nodes.

    Returns
    -------
    tuple of ndarray
        Offsets of each node's neighbours, int64 ``[count + 1]``, and the ascending neighbours.
    """
    larger = _sources_of(keys, count)
    pointers = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) * count)
    upper = sp.csr_matrix((np.ones(len(keys), np.int8), larger, pointers), shape=(count, count))
    lower = upper.T.tocsr()
    both = lower + upper
    both.sort_indices()
    return both.indptr.astype(np.int64), both.indices


def row_windows(indptr: np.ndarray, edges_at_once: int = _EDGES_AT_ONCE) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges ``(first, last)`` of rows, each with at most about `edges_at_once` entries."""
    first, count = 0, len(indptr) - 1
    while first < count:
        last = int(np.searchsorted(indptr, indptr[first] + edges_at_once, side="right")) - 1
        # A longer row has its own window.
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def symmetrized(graph: Any, weights: np.ndarray | None = None) -> Any:
    """Return `graph` with the reverse of every edge and without repeated edges.

    Of `weights`, as for `structure`, each pair of nodes keeps the largest among its edges in both directions: a graph
    that is symmetric already keeps its weights.
    """
    if weights is not None:
        return _symmetric_maximum(structure(graph, weights))
    indptr, sources = compressed(graph)
    count = len(indptr) - 1
    # SciPy needs values; one byte per edge.
    matrix = sp.csr_matrix((np.ones(len(sources), np.int8), sources, indptr), shape=(count, count))
    matrix.has_sorted_indices = True
    matrix.sum_duplicates()
    matrix.data[:] = 1
    both = matrix + matrix.T.tocsr()
    both.sort_indices()
    return from_compressed(both.indptr, both.indices)


def induced(graph: Any, seen: np.ndarray) -> Any:
    """Return the subgraph induced by the mask `seen`, bool ``[N]``, with nodes renumbered from 0 in order.

    Edges keep their weights.
    """
    indptr, sources, weights = compressed_with_weights(graph)
    kept_weights = []
    local = np.cumsum(seen, dtype=sources.dtype) - 1
    degrees = np.zeros(len(seen), dtype=np.int64)
    parts = [sources[:0]]
    for first, last in row_windows(indptr):
        near = sources[indptr[first] : indptr[last]]
        rows = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        kept = seen[near] & seen[rows]
        parts.append(local[near[kept]])
        if weights is not None:
            kept_weights.append(weights[indptr[first] : indptr[last]][kept])
        degrees[first:last] = np.bincount(rows[kept] - first, minlength=last - first)
    return from_compressed(
        np.concatenate([[0], np.cumsum(degrees[seen])]),
        np.concatenate(parts),
        None if weights is None else np.concatenate([weights[:0], *kept_weights]),
    )


def _weighted(graph: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays of `compressed`, and the weights, given by edge id, in their order."""
    count, created = graph.num_nodes(), graph.formats()["created"]
    if "coo" in created:
        source, destination = (part.cpu().numpy() for part in graph.edges())
    else:
        form = "csc" if "csc" in created else "csr"
        pointers, others, edge_ids = (part.cpu().numpy() for part in graph.adj_tensors(form))
        owners = np.repeat(np.arange(count), np.diff(pointers))
        source, destination = (others, owners) if form == "csc" else (owners, others)
        # DGL returns no ids if they are 0 to E − 1.
        weights = weights[edge_ids] if len(edge_ids) else weights
    # Stable, so that parallel edges stay in the order of their ids.
    order = np.argsort(destination.astype(np.int64) * count + source, kind="stable")
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(destination, minlength=count), out=indptr[1:])
    return indptr, source[order].astype(_index_dtype(count)), weights[order]


def _symmetric_maximum(graph: Any) -> Any:
    indptr, sources, weights = _weighted(graph, graph.edata[WEIGHT].numpy())
    count = len(indptr) - 1
    rows, columns = np.repeat(np.arange(count), np.diff(indptr)), sources.astype(np.int64)
    keys, first = np.unique(np.concatenate([rows * count + columns, columns * count + rows]), return_inverse=True)
    largest = np.zeros(len(keys), dtype=np.float32)
    np.maximum.at(largest, first, np.concatenate([weights, weights]))
    pointers = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) * count)
    return from_compressed(pointers, keys % count, largest)


def _ascends(indptr: np.ndarray, sources: np.ndarray, first: int, last: int) -> bool:
    near = sources[indptr[first] : indptr[last]]
    falls = near[1:] < near[:-1]
    # Sources may descend at the start of the next row.
    starts = indptr[first + 1 : last] - indptr[first]
    falls[starts[(starts > 0) & (starts <= len(falls))] - 1] = False
    return not falls.any()


def _sorted_rows(indptr: np.ndarray, sources: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    ordered = sources.astype(_index_dtype(count))
    for first, last in row_windows(indptr):
        if not _ascends(indptr, sources, first, last):
            part = slice(indptr[first], indptr[last])
            keys = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1])) * count + sources[part]
            keys.sort()
            ordered[part] = keys % count
    return indptr, ordered


def _sources_of(keys: np.ndarray, count: int) -> np.ndarray:
    sources = np.empty(len(keys), dtype=_index_dtype(count))
    for start in range(0, len(keys), _EDGES_AT_ONCE):
        part = slice(start, start + _EDGES_AT_ONCE)
        sources[part] = keys[part] % count
    return sources


def _index_dtype(count: int) -> type[np.signedinteger[Any]]:
    return np.int32 if count < 2**31 else np.int64

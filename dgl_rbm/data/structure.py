"""A graph's edges in the one form that a task keeps: compressed by destination, sources ascending, nothing else.

DGL makes other forms of a graph when asked and keeps them: a list of edges costs another 16 bytes an edge, and as
many again where edges have ids. What is here reads and writes the compressed form alone (CSC: where the in-edges of
each node start, and their sources), 8 bytes an edge in DGL and 4 elsewhere, and needs no ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

__all__ = [
    "both_directions",
    "compressed",
    "from_compressed",
    "induced",
    "row_windows",
    "structure",
    "symmetrized",
]

_EDGES_AT_ONCE = 2**23


def structure(graph: Any, *, share: bool = False) -> Any:
    """Return a new graph with the same nodes and edges alone, compressed by destination, on the CPU with int64 ids.

    Repeated edges and self-loops are kept; the order in which the edges came is not. `share` allows to share the
    arrays of a graph that has that form already, which is right where nobody else holds it.
    """
    if graph.formats()["created"] == ["csc"] and graph.idtype == torch.int64 and graph.device.type == "cpu":
        pointers, sources, _ = (part.numpy() for part in graph.adj_tensors("csc"))
        if all(_ascends(pointers, sources, *window) for window in row_windows(pointers)):
            return from_compressed(*((pointers, sources) if share else (pointers.copy(), sources.copy())))
    return from_compressed(*compressed(graph))


def compressed(graph: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return where each node's in-edges start, int64 ``[N + 1]``, and their sources, ascending, ``[E]``.

    The sources are int32 where the number of nodes allows it. `graph` is left as it is: no other form of it is made
    inside it.
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
    # One number an edge, destination first, so that one sort in place does it all.
    keys *= count
    keys += source
    keys.sort()
    return indptr, _sources_of(keys, count)


def from_compressed(indptr: np.ndarray, sources: np.ndarray) -> Any:
    """Return the graph with these in-edges, in no other form than this one, int64."""
    # Here and not above: the configs' base classes, which annotate with the task, must import without DGL.
    from dgl_rbm.data.dgl_compat import dgl

    parts = [np.asarray(part, dtype=np.int64) for part in (indptr, sources)]
    # torch takes no array that may not be written to, such as one that is mapped from a file.
    tensors = [torch.from_numpy(part if part.flags.writeable else part.copy()) for part in parts]
    return dgl.graph(("csc", (*tensors, torch.empty(0, dtype=torch.int64))), num_nodes=len(indptr) - 1)


def both_directions(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the compressed form of an undirected graph, each edge given once.

    Parameters
    ----------
    keys : ndarray
        ``smaller end * count + larger end`` of each edge, int64, ascending, none twice.
    count : int
        Number of nodes.

    Returns
    -------
    tuple of ndarray
        Where each node's neighbours start, int64 ``[count + 1]``, and the neighbours, ascending.
    """
    larger = _sources_of(keys, count)
    pointers = np.searchsorted(keys, np.arange(count + 1, dtype=np.int64) * count)
    upper = sp.csr_matrix((np.ones(len(keys), np.int8), larger, pointers), shape=(count, count))
    lower = upper.T.tocsr()
    both = lower + upper
    both.sort_indices()
    return both.indptr.astype(np.int64), both.indices


def row_windows(indptr: np.ndarray, edges_at_once: int = _EDGES_AT_ONCE) -> Iterator[tuple[int, int]]:
    """Yield ranges ``(first, last)`` of rows that follow each other, each of about `edges_at_once` entries at most."""
    first, count = 0, len(indptr) - 1
    while first < count:
        last = int(np.searchsorted(indptr, indptr[first] + edges_at_once, side="right")) - 1
        # A row that is longer by itself has a window of its own.
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def symmetrized(graph: Any) -> Any:
    """Return `graph` with the reverse of every edge, each edge once."""
    indptr, sources = compressed(graph)
    count = len(indptr) - 1
    # One byte an edge, which SciPy asks for; the numbers themselves mean nothing.
    matrix = sp.csr_matrix((np.ones(len(sources), np.int8), sources, indptr), shape=(count, count))
    matrix.has_sorted_indices = True
    matrix.sum_duplicates()
    matrix.data[:] = 1
    both = matrix + matrix.T.tocsr()
    both.sort_indices()
    return from_compressed(both.indptr, both.indices)


def induced(graph: Any, seen: np.ndarray) -> Any:
    """Return the part of `graph` on the nodes of the mask `seen`, bool ``[N]``, numbered in their order from 0."""
    indptr, sources = compressed(graph)
    local = np.cumsum(seen, dtype=sources.dtype) - 1
    degrees = np.zeros(len(seen), dtype=np.int64)
    parts = [sources[:0]]
    for first, last in row_windows(indptr):
        near = sources[indptr[first] : indptr[last]]
        rows = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        kept = seen[near] & seen[rows]
        parts.append(local[near[kept]])
        degrees[first:last] = np.bincount(rows[kept] - first, minlength=last - first)
    return from_compressed(np.concatenate([[0], np.cumsum(degrees[seen])]), np.concatenate(parts))


def _ascends(indptr: np.ndarray, sources: np.ndarray, first: int, last: int) -> bool:
    near = sources[indptr[first] : indptr[last]]
    falls = near[1:] < near[:-1]
    # Where the next row starts, sources may fall.
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

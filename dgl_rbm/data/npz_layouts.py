"""Layouts of graphs in ``.npz`` files: an adjacency matrix, as in the CPF files, or a list of edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from dgl_rbm.data.archives import Archive
from dgl_rbm.errors import DataError

__all__ = [
    "StoredEdges",
    "StoredMatrix",
    "has_edges",
    "has_matrix",
    "names_of",
    "optional",
    "read_edges",
    "read_matrix",
]

# Names of arrays by what they contain; the first that a file has is read.
_ONCE, _DIRECTED = "edges", "edge_index"
_FEATURES = ("node_features", "x", "features", "feat")
_LABELS = ("node_labels", "y", "labels", "label")
_WEIGHTS = ("edge_weight", "edge_weights", "weight")

_ONE_CLASS = (
    "Graphs with several labels per node are not supported yet; choose one label per node and save it in 'labels' [N]."
)


@dataclass(frozen=True)
class StoredMatrix:
    """Graph with an adjacency matrix: ``[N, N]``, features ``[N, F]`` and labels ``[N]``."""

    adjacency: sp.csr_matrix
    attributes: sp.csr_matrix
    labels: np.ndarray


@dataclass(frozen=True)
class StoredEdges:
    """Graph with a list of edges.

    Attributes
    ----------
    source, destination : ndarray
        Positions of nodes ``[E]``.
    listed_once : bool
        Whether an undirected edge is in the list once, by the name of the array.
    features, labels : ndarray
        ``[N, F]`` and ``[N]``.
    weights : ndarray or None
        ``[E]``.
    """

    source: np.ndarray
    destination: np.ndarray
    listed_once: bool
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None


def has_matrix(archive: Archive) -> bool:
    """Whether the archive has an adjacency matrix."""
    return archive.first(("adj_matrix", "adj_data", "adj_indices")) is not None


def has_edges(archive: Archive) -> bool:
    """Whether the archive has a list of edges."""
    return archive.first((_ONCE, _DIRECTED)) is not None


def read_matrix(archive: Archive) -> StoredMatrix:
    """Read the layout of the CPF files: ``adj_*``, ``attr_*`` and ``labels``.

    Raises
    ------
    DataError
        If an array is missing or damaged, the arrays do not match, or nodes have several labels.
    """
    adjacency, attributes = archive.matrix("adj"), archive.matrix("attr")
    if archive.first(("labels_matrix", "labels_indices")):
        labels = _of_indicators(archive.matrix("labels"), archive)
    else:
        labels = archive.read("labels")
        if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf":
            labels = _of_indicators(sp.csr_matrix(labels), archive)
    count = len(labels)
    if adjacency.shape != (count, count) or attributes.shape[0] != count or labels.ndim != 1:
        raise DataError(
            f"The arrays of '{archive.path}' do not match: adjacency {adjacency.shape}, attributes "
            f"{attributes.shape}, labels {labels.shape}."
        )
    return StoredMatrix(adjacency, attributes, _without_unlabelled(labels, archive))


def read_edges(archive: Archive) -> StoredEdges:
    """Read the layout of the heterophilous benchmark: ``node_features``, ``node_labels`` and ``edges`` ``[E, 2]``.

    ``x``, ``y`` and ``edge_index`` ``[2, E]``, and a few other names, are read too.

    Raises
    ------
    DataError
        If an array is missing or damaged, an edge has an end that is no node, or nodes have several labels.
    """
    name = _ONCE if _ONCE in archive else _DIRECTED
    edges = archive.read(name)
    if edges.ndim != 2 or 2 not in edges.shape or edges.dtype.kind not in "iu":
        raise DataError(
            f"The array '{name}' of the file '{archive.path}' is of type {edges.dtype} and shape {edges.shape}; "
            "expected integers [E, 2] or [2, E]."
        )
    # Two edges fit both forms; each name has its usual one.
    in_rows = edges.shape[1] == 2 if name == _ONCE else edges.shape[0] != 2
    source, destination = edges.T if in_rows else edges
    features, labels = (
        _required(archive, names, what) for names, what in ((_FEATURES, "features"), (_LABELS, "labels"))
    )
    outside = edges[(edges < 0) | (edges >= len(features))]
    if len(outside):
        raise DataError(
            f"The array '{name}' of the file '{archive.path}' contains the node {outside[0]}; the nodes are 0 to "
            f"{len(features) - 1}, one per row of features."
        )
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf":
        labels = _of_indicators(sp.csr_matrix(labels), archive)
    return StoredEdges(
        source, destination, name == _ONCE, features, _without_unlabelled(labels, archive), optional(archive, *_WEIGHTS)
    )


def optional(archive: Archive, *names: str) -> np.ndarray | None:
    """Return the first of some arrays that the archive has, or None."""
    found = archive.first(names)
    return None if found is None else archive.read(found)


def names_of(archive: Archive, name: str, problems: list[str]) -> np.ndarray | None:
    """Return an array of names; None if there is none or, with an entry in `problems`, if it cannot be read."""
    if name not in archive:
        return None
    try:
        return archive.read(name)
    except DataError:
        problems.append(f"the names in '{name}' are not used: they are Python objects or damaged.")
        return None


def _required(archive: Archive, names: tuple[str, ...], what: str) -> np.ndarray:
    found = archive.first(names)
    if found is None:
        raise DataError(
            f"The file '{archive.path}' lacks the {what}, an array {' or '.join(map(repr, names))}; it contains "
            f"{', '.join(sorted(archive.names))}."
        )
    return archive.read(found)


def _of_indicators(labels: Any, archive: Archive) -> np.ndarray:
    """Return the classes of indicators ``[N, C]`` with at most one 1 per row; −1 for a row of zeros."""
    labels.eliminate_zeros()
    counts = np.diff(labels.indptr)
    if (counts > 1).any():
        raise DataError(
            f"The file '{archive.path}' is multi-label: its {labels.shape[0]:,} nodes have {labels.nnz:,} labels of "
            f"{labels.shape[1]} classes; expected one class per node.",
            hint=_ONE_CLASS,
        )
    classes = np.full(len(counts), -1, dtype=np.int64)
    classes[counts == 1] = labels.indices
    return classes


def _without_unlabelled(labels: np.ndarray, archive: Archive) -> np.ndarray:
    """Return labels with −1 where the mask ``labelled``, if there is one, is False."""
    labelled = optional(archive, "labelled")
    if (
        labelled is None
        or labelled.dtype.kind != "b"
        or labelled.shape != labels.shape
        or labels.dtype.kind not in "iu"
    ):
        return labels
    return np.where(labelled, labels.astype(np.int64), -1)

"""Dataset `npz`: a graph as arrays of a ``.npz`` file, in the layouts of published benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm.data.archives import Archive
from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.npz_layouts import has_edges, has_matrix, names_of, optional, read_edges, read_matrix
from dgl_rbm.data.structure import symmetrized
from dgl_rbm.errors import DataError
from dgl_rbm.registry import datasets

__all__ = ["NpzConfig"]

_MASKS = tuple(tuple(f"{part}_{ending}" for ending in ("masks", "mask", "idx")) for part in ("train", "val", "test"))
_LAYOUTS = (
    "Layouts: adj_data, adj_indices, adj_indptr, adj_shape, attr_* and labels; or node_features, node_labels and "
    "edges. `dgl_rbm.from_arrays(edges, features, labels, ...)` takes any other arrays in Python."
)
_SHOWN = 12


@datasets.register
class NpzConfig(DatasetConfig):
    """A graph as arrays of a ``.npz`` file.

    Two layouts are read. That of the CPF files: ``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape`` (or
    ``adj_matrix``), the same for ``attr``, and ``labels``; edges lead from the row to the column of the adjacency, and
    values other than 1 are edge weights. That of the heterophilous benchmark: ``node_features``, ``node_labels``, and
    ``edges`` ``[E, 2]``, which stand for both directions. ``x``, ``y`` and ``edge_index`` ``[2, E]``, directed, are
    read too. In both, ``train_masks``, ``val_masks`` and ``test_masks`` are the split, ``class_names`` and
    ``node_names`` the names of classes and nodes. Pickled objects are never read.
    """

    paths: ClassVar[Any] = ("path",)

    kind: Literal["npz"] = "npz"
    path: str = Field(description="The .npz file.")
    directed: bool | None = Field(
        None,
        description="Whether the array `edges` contains directed edges; null for the rule of the heterophilous "
        "benchmark: only if the file's name contains 'directed'.",
    )
    split_index: int | None = Field(
        None, description="Which of several masks [N, K] or [K, N] to use, counted from 0; null for masks of one split."
    )
    allow_missing_classes: bool = Field(
        False, description="Whether the masks may leave a class without a training node."
    )

    @property
    def graph_name(self) -> str:
        return Path(self.path).expanduser().stem

    def files(self) -> list[Path]:
        """Return the file, if it exists."""
        path = Path(self.path).expanduser()
        return [path] if path.is_file() else []

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph; the masks are ignored if the option `split` is set, and the seed is not used."""
        notes: list[str] = []
        problems: list[str] = []
        with Archive(Path(self.path).expanduser()) as archive:
            if has_matrix(archive):
                parts = _of_matrix(archive)
            elif has_edges(archive):
                parts = self._of_edges(archive, notes)
            else:
                raise DataError(
                    f"The file '{archive.path}' contains no graph in a known layout; its arrays are "
                    f"{', '.join(archive.names[:_SHOWN])}{', ...' if len(archive.names) > _SHOWN else ''}.",
                    hint=_LAYOUTS,
                )
            parts["classes"] = names_of(archive, "class_names", notes)
            parts["node_ids"] = names_of(archive, "node_names", notes)
            masks = [optional(archive, *names) for names in _MASKS]
            if self.split is not None:
                masks = [None] * 3
            elif all(mask is None for mask in masks):
                problems.append("without masks, give a split such as '20/30' or '0.6/0.2/0.2'.")
            if unread := [name for name in archive.unread if name not in ("class_names", "node_names", "attr_names")]:
                notes.append(f"the arrays {', '.join(unread)} are not used.")
        return LabeledGraph(
            name=self.graph_name,
            train_idx=masks[0],
            val_idx=masks[1],
            test_idx=masks[2],
            split_index=None if self.split else self.split_index,
            allow_missing_classes=self.allow_missing_classes,
            problems=tuple(problems),
            notes=tuple(notes),
            **parts,
        )

    def _of_edges(self, archive: Archive, notes: list[str]) -> dict[str, Any]:
        """Return the parts of a graph with a list of edges, as arguments of `LabeledGraph`."""
        stored = read_edges(archive)
        graph, weights = _graph(stored.source, stored.destination, len(stored.features)), stored.weights
        directed = "directed" in Path(self.path).stem if self.directed is None else self.directed
        if stored.listed_once and not directed:
            if weights is None:
                graph = symmetrized(graph)
            else:
                ends = np.concatenate([stored.source, stored.destination])
                graph = _graph(ends, np.concatenate([stored.destination, stored.source]), len(stored.features))
                weights = np.concatenate([weights, weights])
            notes.append("its edges stand for both directions; the option `directed` reads them as directed.")
        return {"graph": graph, "features": stored.features, "labels": stored.labels, "edge_weight": weights}


def _of_matrix(archive: Archive) -> dict[str, Any]:
    """Return the parts of a graph with an adjacency matrix, as arguments of `LabeledGraph`."""
    stored = read_matrix(archive)
    edges = stored.adjacency.tocoo()
    kept = edges.data != 0
    weights = edges.data[kept]
    return {
        "graph": _graph(edges.row[kept], edges.col[kept], len(stored.labels)),
        "features": stored.attributes,
        "labels": stored.labels,
        "edge_weight": None if (weights == 1).all() else weights,
    }


def _graph(source: np.ndarray, destination: np.ndarray, count: int) -> Any:
    ends = [torch.from_numpy(np.ascontiguousarray(end, dtype=np.int64)) for end in (source, destination)]
    return dgl.graph((ends[0], ends[1]), num_nodes=count)

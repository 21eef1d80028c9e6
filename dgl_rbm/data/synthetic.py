"""Dataset `synthetic`: random graphs with communities, hubs and noisy features, of any size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm.data.arrays import MemoryMap, kept_arrays, maps
from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.files import cache_folder
from dgl_rbm.data.structure import both_directions, from_compressed
from dgl_rbm.errors import DatasetNotFoundError
from dgl_rbm.registry import datasets
from dgl_rbm.runtime.seeding import derive_seed

__all__ = ["SyntheticConfig", "block_model_edges"]

# Draws per block. The graph of a seed depends on it.
_EDGES_AT_ONCE = 4 * 2**20
_ROWS_AT_ONCE = 65_536
_STEPS_BEFORE_SEARCHING = 6
# Increment it if the same options give another graph, so that older caches are not used.
_RECIPE = 1


@datasets.register
class SyntheticConfig(DatasetConfig):
    """A degree-corrected contextual stochastic block model.

    Nodes of one class are linked more often, expected degrees follow a power law, and features are the mean of
    the class plus noise (Karrer and Newman 2011, "Stochastic blockmodels and community structure in
    networks"; Deshpande et al. 2018, "Contextual Stochastic Block Models"). Time and memory are
    linear in the number of nodes and edges.
    """

    kind: Literal["synthetic"] = "synthetic"
    num_nodes: int = Field(2000, ge=10, description="Number of nodes.")
    num_classes: int = Field(5, ge=2, description="Number of classes, whose sizes differ by at most one node.")
    num_features: int = Field(64, ge=1, description="Number of features.")
    average_degree: float = Field(
        10.0, ge=0, description="Mean number of neighbours before repeated edges and self-loops are dropped."
    )
    homophily: float = Field(0.8, ge=0, le=1, description="Share of edges that link two nodes of the same class.")
    feature_signal: float = Field(
        1.5, ge=0, description="Norm of the class means; the noise of each feature has standard deviation 1."
    )
    degree_exponent: float | None = Field(
        2.5,
        gt=2,
        description="Exponent of the power law of the expected degrees; null for equal expected degrees.",
    )
    graph_seed: int = Field(0, ge=0, description="Seed of the graph; the run's seed draws the split.")

    memory_map: MemoryMap = Field(
        "auto",
        description="Whether to cache the graph on disk and to map its features from there; 'auto' does so if they "
        "take 256 MiB or more.",
    )

    def load(self, seed: int) -> LabeledGraph:
        """Generate the graph from `graph_seed`, or read it from the cache folder."""
        if maps(self.memory_map, 4 * self.num_nodes * self.num_features):
            arrays = self._kept()
            indptr, sources, labels = arrays["indptr"], arrays["sources"], np.array(arrays["labels"])
            features: np.ndarray | torch.Tensor = arrays["features"]
        else:
            indptr, sources, labels, generator = self._graph()
            features = torch.empty(self.num_nodes, self.num_features)
            for rows, block in zip(features.split(_ROWS_AT_ONCE), self._blocks(labels, generator), strict=True):
                rows.copy_(torch.from_numpy(block))
        return LabeledGraph(
            name=self.graph_name,
            graph=from_compressed(indptr, sources),
            features=features,
            labels=torch.from_numpy(labels),
            num_classes=self.num_classes,
            default_split="0.6/0.2/0.2",
            _owns_graph=True,
        )

    def _kept(self) -> dict[str, np.ndarray]:
        def make(folder: Path) -> None:
            indptr, sources, labels, generator = self._graph()
            about = {"descr": "<f4", "fortran_order": False, "shape": (self.num_nodes, self.num_features)}
            # Written, not mapped: on a full disk a write raises an error, a mapping ends the process.
            with (folder / "features.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, about)
                for block in self._blocks(labels, generator):
                    file.write(block.astype("<f4", copy=False).data)
                    file.flush()
            for name, array in (("indptr", indptr), ("sources", sources), ("labels", labels)):
                np.save(folder / f"{name}.npy", array)

        key = self.options(without=("memory_map", *DatasetConfig.model_fields)) | {"recipe": _RECIPE}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache_folder() / "synthetic" / f"{self.num_nodes}-{digest}"
        try:
            return kept_arrays(folder, key, ("features", "indptr", "sources", "labels"), make)
        except OSError as error:
            raise DatasetNotFoundError(
                f"The synthetic graph cannot be kept in '{folder.parent}': {error.strerror or error}.",
                hint="Set another folder with XDG_CACHE_HOME, or set the option `memory_map` to 'never' to hold it "
                "in memory.",
            ) from None

    def _graph(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
        """Return the CSC arrays of the edges, the labels, and the generator for the features."""
        generator = np.random.default_rng(derive_seed(self.graph_seed, "synthetic"))
        labels = generator.permutation(np.arange(self.num_nodes) % self.num_classes)
        weights = np.ones(self.num_nodes)
        if self.degree_exponent is not None:
            weights = (1 - generator.random(self.num_nodes)) ** (-1 / (self.degree_exponent - 1))
            # Structural cut-off: beyond it most edges of a hub would be repeated.
            weights = np.minimum(weights, np.sqrt(self.num_nodes))
        count = round(self.num_nodes * self.average_degree / 2)
        keys = block_model_edges(labels, weights, count, self.homophily, generator)
        return *both_directions(keys, self.num_nodes), labels, generator

    def _blocks(self, labels: np.ndarray, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the features, float32, in blocks of `_ROWS_AT_ONCE` rows."""
        means = generator.standard_normal((self.num_classes, self.num_features), dtype=np.float32)
        means *= self.feature_signal / np.linalg.norm(means, axis=1, keepdims=True)
        for start in range(0, self.num_nodes, _ROWS_AT_ONCE):
            near = labels[start : start + _ROWS_AT_ONCE]
            block = generator.standard_normal((len(near), self.num_features), dtype=np.float32)
            block += means[near]
            yield block


def block_model_edges(
    labels: np.ndarray, weights: np.ndarray, count: int, homophily: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw undirected edges: one end by weight, the other by weight within or outside the class of the first.

    Parameters
    ----------
    labels : ndarray
        int64 ``[N]``, at least two classes, numbered from 0.
    weights : ndarray
        Expected degrees up to a common factor, ``[N]``, positive.
    count : int
        Number of draws.
    homophily : float
        Probability that both ends have the same class.

    Returns
    -------
    ndarray
        ``smaller end * N + larger end`` of each edge, int64, ascending; self-loops and repeated edges are dropped,
        so there are fewer than `count`.
    """
    order = np.argsort(labels, kind="stable")
    # Each node is an interval on a line, as long as its weight; classes are contiguous.
    ends = np.cumsum(weights[order])
    class_ends = ends[np.cumsum(np.bincount(labels)) - 1]
    class_starts = np.concatenate([[0.0], class_ends[:-1]])
    table = _starting_points(ends)
    keys = np.empty(count, dtype=np.int64)
    filled = 0
    for start in range(0, count, _EDGES_AT_ONCE):
        size = min(_EDGES_AT_ONCE, count - start)
        first = order[_interval_at(ends, table, generator.random(size) * ends[-1])]
        low, high = class_starts[labels[first]], class_ends[labels[first]]
        within = generator.random(size) < homophily
        draw = generator.random(size)
        inside = low + draw * (high - low)
        outside = draw * (ends[-1] - (high - low))
        outside += np.where(outside >= low, high - low, 0.0)
        second = order[_interval_at(ends, table, np.where(within, inside, outside))]
        found = (np.minimum(first, second) * len(labels) + np.maximum(first, second))[first != second]
        keys[filled : filled + len(found)] = found
        filled += len(found)
    keys = keys[:filled]
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if filled else keys


def _starting_points(ends: np.ndarray) -> np.ndarray:
    """Divide the line into as many equal parts as intervals; return an interval at or before the start of each."""
    # Slightly to the left, since rounding may move a position into the next part.
    starts = np.arange(len(ends)) * (ends[-1] / len(ends)) * (1 - 1e-12)
    return np.minimum(np.searchsorted(ends, starts, side="right"), len(ends) - 1)


def _interval_at(ends: np.ndarray, table: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return ``searchsorted(ends, position, "right")``, clipped to the last interval.

    From a nearby start this takes a few steps; a binary search takes one per bit of the number of intervals, and
    almost every one is a cache miss.
    """
    last = len(ends) - 1
    part = np.minimum((position * (len(ends) / ends[-1])).astype(np.int64), last)
    found = table[part]
    for _ in range(_STEPS_BEFORE_SEARCHING):
        short = ends[found] <= position
        if not short.any():
            return found
        found += short
        np.minimum(found, last, out=found)
    short = ((ends[found] <= position) & (found < last)).nonzero()[0]
    found[short] = np.minimum(np.searchsorted(ends, position[short], side="right"), last)
    return found

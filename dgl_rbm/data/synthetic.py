"""Random graphs of any size with communities, hubs and noisy features."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm._dgl import dgl
from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.registry import datasets
from dgl_rbm.training.seeding import derive_seed

__all__ = ["SyntheticConfig", "block_model_edges"]


@datasets.register
class SyntheticConfig(DatasetConfig):
    """A degree-corrected contextual stochastic block model.

    Nodes of one class link to each other more often, expected degrees follow a power law, and features are the
    mean of the class plus noise (Karrer and Newman 2011, "Stochastic blockmodels and community structure in
    networks"; Deshpande et al. 2018, "Contextual Stochastic Block Models"). Time and memory grow with the number
    of nodes and edges alone.
    """

    kind: Literal["synthetic"] = "synthetic"
    num_nodes: int = Field(2000, ge=10, description="Number of nodes.")
    num_classes: int = Field(5, ge=2, description="Number of classes, of equal size up to one node.")
    num_features: int = Field(64, ge=1, description="Number of features.")
    average_degree: float = Field(
        10.0, ge=0, description="Mean number of neighbours before repeated edges and self-loops are dropped."
    )
    homophily: float = Field(0.8, ge=0, le=1, description="Share of edges that link two nodes of the same class.")
    feature_signal: float = Field(
        1.5, ge=0, description="Length of the class means; the noise of each feature has deviation 1."
    )
    degree_exponent: float | None = Field(
        2.5,
        gt=2,
        description="Exponent of the power law of the expected degrees; null for equal expected degrees.",
    )
    graph_seed: int = Field(0, ge=0, description="Seed of the graph itself; the run's seed draws the split.")

    def load(self, seed: int) -> LabeledGraph:
        """Generate the graph from `graph_seed`."""
        generator = np.random.default_rng(derive_seed(self.graph_seed, "synthetic"))
        labels = generator.permutation(np.arange(self.num_nodes) % self.num_classes)
        weights = np.ones(self.num_nodes)
        if self.degree_exponent is not None:
            weights = (1 - generator.random(self.num_nodes)) ** (-1 / (self.degree_exponent - 1))
            # A structural cut-off: beyond it most edges of a hub would repeat each other.
            weights = np.minimum(weights, np.sqrt(self.num_nodes))
        count = round(self.num_nodes * self.average_degree / 2)
        source, destination = block_model_edges(labels, weights, count, self.homophily, generator)
        means = generator.standard_normal((self.num_classes, self.num_features), dtype=np.float32)
        means *= self.feature_signal / np.linalg.norm(means, axis=1, keepdims=True)
        features = generator.standard_normal((self.num_nodes, self.num_features), dtype=np.float32)
        features += means[labels]
        both = (np.concatenate([source, destination]), np.concatenate([destination, source]))
        return LabeledGraph(
            name="synthetic",
            graph=dgl.graph(tuple(map(torch.from_numpy, both)), num_nodes=self.num_nodes),
            features=torch.from_numpy(features),
            labels=torch.from_numpy(labels),
            num_classes=self.num_classes,
            default_split="0.6/0.2/0.2",
        )


def block_model_edges(
    labels: np.ndarray, weights: np.ndarray, count: int, homophily: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw undirected edges; one end by weight, the other by weight inside or outside the first one's class.

    Parameters
    ----------
    labels : ndarray
        int64 ``[N]``, classes from 0, at least two of them.
    weights : ndarray
        Expected degrees up to a factor, ``[N]``, positive.
    count : int
        Number of draws.
    homophily : float
        Probability that both ends are of one class.

    Returns
    -------
    tuple of ndarray
        The smaller and the larger end of each edge, int64; without self-loops and repeated edges, so somewhat
        fewer than `count`.
    """
    order = np.argsort(labels, kind="stable")
    # Nodes lie on a line, class by class, each as an interval as long as its weight.
    ends = np.cumsum(weights[order])
    class_ends = ends[np.cumsum(np.bincount(labels)) - 1]
    class_starts = np.concatenate([[0.0], class_ends[:-1]])

    def at(position: np.ndarray) -> np.ndarray:
        return order[np.minimum(np.searchsorted(ends, position, side="right"), len(ends) - 1)]

    first = at(generator.random(count) * ends[-1])
    low, high = class_starts[labels[first]], class_ends[labels[first]]
    within = generator.random(count) < homophily
    draw = generator.random(count)
    inside = low + draw * (high - low)
    outside = draw * (ends[-1] - (high - low))
    outside += np.where(outside >= low, high - low, 0.0)
    second = at(np.where(within, inside, outside))
    smaller, larger = np.minimum(first, second), np.maximum(first, second)
    keys = np.unique((smaller * len(labels) + larger)[smaller != larger])
    return keys // len(labels), keys % len(labels)

"""Label histograms against plain loops, and their leaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.encoders.label_histogram import LabelHistogramConfig, LabelHistogramEncoder
from dgl_rbm.runtime.context import RunContext

NODES, CLASSES, TRAIN = 9, 3, 6
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), min_size=5, max_size=30)
some_labels = st.lists(st.integers(0, CLASSES - 1), min_size=NODES, max_size=NODES)


def make(observed_graph: Any, edges: list[tuple[int, int]], labels: list[int]) -> Any:
    """Return a graph whose first nodes train and whose next two validate."""
    return observed_graph(
        edges, NODES, labels=labels, train=list(range(TRAIN)), val=[TRAIN, TRAIN + 1], num_classes=CLASSES
    )


def neighbors_of(edges: list[tuple[int, int]], node: int) -> list[int]:
    return [u for u, v in edges if v == node and u != v]


def histogram(edges: list[tuple[int, int]], labels: list[int], known: list[int], node: int, hops: int) -> list[float]:
    """Return the shares of the classes on walks of less than `hops` steps from `node`, a step halving the weight."""
    counts = [0.0] * CLASSES

    def walk(at: int, weight: float, left: int) -> None:
        if at in known:
            counts[labels[at]] += weight
        near = neighbors_of(edges, at)
        if left > 1:
            for other in near:
                walk(other, 0.5 * weight / len(near), left - 1)

    walk(node, 1.0, hops)
    total = sum(counts)
    return [count / total for count in counts] if total else counts


def mean_of_neighbors(edges: list[tuple[int, int]], vectors: list[list[float]]) -> Tensor:
    rows = []
    for node in range(NODES):
        near = neighbors_of(edges, node)
        rows.append([sum(vectors[u][c] for u in near) / max(1, len(near)) for c in range(CLASSES)])
    return torch.tensor(rows)


@pytest.mark.parametrize("hops", [1, 3])
@given(some_edges, some_labels)
def test_vectors_are_histograms_of_walks_and_encodings_their_means(
    observed_graph: Any, hops: int, edges: list[tuple[int, int]], labels: list[int]
) -> None:
    # Distinct edges keep the walks few.
    edges = sorted(set(edges))
    output = LabelHistogramEncoder(hops=hops).fit(make(observed_graph, edges, labels), RunContext())
    expected = [histogram(edges, labels, list(range(TRAIN)), node, hops) for node in range(NODES)]
    torch.testing.assert_close(output.vectors, torch.tensor(expected))
    torch.testing.assert_close(output.encodings[TRAIN:], mean_of_neighbors(edges, expected)[TRAIN:])


@given(some_edges, some_labels)
def test_with_as_many_folds_as_training_nodes_each_gets_what_the_others_give(
    observed_graph: Any, edges: list[tuple[int, int]], labels: list[int]
) -> None:
    edges = sorted(set(edges))
    encoder = LabelHistogramEncoder(hops=3, folds=50)
    encodings = encoder.fit(make(observed_graph, edges, labels), RunContext()).encodings
    for node in range(TRAIN):
        others = [other for other in range(TRAIN) if other != node]
        expected = [histogram(edges, labels, others, each, 3) for each in range(NODES)]
        torch.testing.assert_close(encodings[node], mean_of_neighbors(edges, expected)[node])


@pytest.mark.parametrize("consistent", [True, False])
@given(some_edges, some_labels, st.integers(0, TRAIN - 1))
def test_no_label_reaches_the_encoding_of_its_own_node(
    observed_graph: Any, consistent: bool, edges: list[tuple[int, int]], labels: list[int], node: int
) -> None:
    encoder = LabelHistogramEncoder(hops=4, consistent=consistent)
    first = encoder.fit(make(observed_graph, edges, labels), RunContext()).encodings
    changed = [label if v != node else (label + 1) % CLASSES for v, label in enumerate(labels)]
    second = encoder.fit(make(observed_graph, edges, changed), RunContext()).encodings
    assert torch.equal(first[node], second[node])


def test_labels_that_are_no_training_labels_are_not_read(observed_graph: Any) -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)]
    observed = make(observed_graph, edges, [0] * NODES)
    changed = dataclasses.replace(observed, labels=torch.tensor([0] * TRAIN + [2] * (NODES - TRAIN)))
    first = LabelHistogramEncoder().fit(observed, RunContext())
    second = LabelHistogramEncoder().fit(changed, RunContext())
    assert torch.equal(first.encodings, second.encodings)
    assert torch.equal(first.vectors, second.vectors)


def test_options_reach_the_encoder() -> None:
    encoder = LabelHistogramConfig(hops=4, decay=0.3, folds=3, consistent=False).build()
    assert isinstance(encoder, LabelHistogramEncoder)
    assert (encoder.hops, encoder.steps, encoder.decay, encoder.folds, encoder.consistent) == (4, 3, 0.3, 3, False)

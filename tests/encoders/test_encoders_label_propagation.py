"""Label propagation against plain loops, and its leaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.encoders.label_propagation import LabelPropagationEncoder
from dgl_rbm.runtime.context import RunContext

NODES, CLASSES, TRAIN = 9, 3, 6
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), min_size=5, max_size=30)
some_labels = st.lists(st.integers(0, CLASSES - 1), min_size=NODES, max_size=NODES)


def make(observed_graph: Any, edges: list[tuple[int, int]], labels: list[int]) -> Any:
    """Return a graph whose first nodes train and whose next two validate."""
    return observed_graph(
        edges, NODES, labels=labels, train=list(range(TRAIN)), val=[TRAIN, TRAIN + 1], num_classes=CLASSES
    )


def propagated(edges: list[tuple[int, int]], labels: list[int], known: list[int], steps: int, alpha: float) -> Tensor:
    neighbors = [[u for u, w in edges if w == v and u != v] for v in range(NODES)]
    start = [[float(v in known and labels[v] == c) for c in range(CLASSES)] for v in range(NODES)]
    scores = start
    for _ in range(steps):
        fresh = [[(1 - alpha) * start[v][c] for c in range(CLASSES)] for v in range(NODES)]
        for v in range(NODES):
            for u in neighbors[v]:
                for c in range(CLASSES):
                    fresh[v][c] += alpha * scores[u][c] / len(neighbors[v])
        scores = fresh
    return torch.tensor(scores)


@given(some_edges, some_labels)
def test_vectors_come_from_all_training_labels(
    observed_graph: Any, edges: list[tuple[int, int]], labels: list[int]
) -> None:
    encoder = LabelPropagationEncoder(steps=4, alpha=0.8, consistent=False)
    output = encoder.fit(make(observed_graph, edges, labels), RunContext())
    expected = propagated(edges, labels, list(range(TRAIN)), 4, 0.8)
    torch.testing.assert_close(output.vectors, expected)
    torch.testing.assert_close(output.encodings[TRAIN:], expected[TRAIN:])


@given(some_edges, some_labels)
def test_with_as_many_folds_as_training_nodes_each_gets_what_the_others_give(
    observed_graph: Any, edges: list[tuple[int, int]], labels: list[int]
) -> None:
    encoder = LabelPropagationEncoder(steps=4, alpha=0.8, folds=50, consistent=False)
    encodings = encoder.fit(make(observed_graph, edges, labels), RunContext()).encodings
    for node in range(TRAIN):
        others = [other for other in range(TRAIN) if other != node]
        torch.testing.assert_close(encodings[node], propagated(edges, labels, others, 4, 0.8)[node])


@given(some_edges, some_labels, st.integers(0, TRAIN - 1), st.booleans())
def test_no_training_node_sees_its_own_label(
    observed_graph: Any, edges: list[tuple[int, int]], labels: list[int], node: int, consistent: bool
) -> None:
    edges = edges + [(v, u) for u, v in edges]
    encoder = LabelPropagationEncoder(steps=6, folds=3, consistent=consistent)
    changed = list(labels)
    changed[node] = (changed[node] + 1) % CLASSES
    before, after = (
        encoder.fit(make(observed_graph, edges, values), RunContext()).encodings for values in (labels, changed)
    )
    assert torch.equal(before[node], after[node])


@pytest.mark.parametrize("consistent", [True, False])
def test_the_leak_test_can_fail(observed_graph: Any, consistent: bool) -> None:
    edges = [(0, 6), (6, 0), (1, 6), (6, 1)]
    encoder = LabelPropagationEncoder(steps=4, folds=3, consistent=consistent)
    before, after = (
        encoder.fit(make(observed_graph, edges, [label, 1, 2, 0, 1, 2, 0, 1, 2]), RunContext()) for label in (0, 1)
    )
    assert not torch.equal(before.vectors[0], after.vectors[0])
    assert not torch.equal(before.encodings[6], after.encodings[6])


def test_other_labels_than_those_for_training_change_nothing(observed_graph: Any) -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)] + [((u + 1) % NODES, u) for u in range(NODES)]
    observed = make(observed_graph, edges, [0, 1, 2, 0, 1, 2, 0, 1, -1])
    labels = observed.labels.clone()
    labels[TRAIN:] = torch.tensor([2, 2, 0])
    encoder = LabelPropagationEncoder()
    first, second = (
        encoder.fit(graph, RunContext()) for graph in (observed, dataclasses.replace(observed, labels=labels))
    )
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(first.encodings, second.encodings)


def test_consistent_encodings_are_means_of_the_same_propagation(observed_graph: Any) -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)] + [((u + 1) % NODES, u) for u in range(NODES)]
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    output = LabelPropagationEncoder(steps=3, folds=TRAIN).fit(make(observed_graph, edges, labels), RunContext())
    everyone = propagated(edges, labels, list(range(TRAIN)), 3, 0.9)
    torch.testing.assert_close(output.encodings[7], (everyone[6] + everyone[8]) / 2)
    without = propagated(edges, labels, [0, 1, 3, 4, 5], 3, 0.9)
    torch.testing.assert_close(output.encodings[2], (without[1] + without[3]) / 2)


def test_a_single_training_node_has_nothing_to_learn_from(observed_graph: Any) -> None:
    observed = observed_graph([(0, 1), (1, 0)], 2, labels=[1, 0], train=[0], val=[1])
    encodings = LabelPropagationEncoder(consistent=False).fit(observed, RunContext()).encodings
    assert not encodings[0].any()
    assert encodings[1, 1] > 0

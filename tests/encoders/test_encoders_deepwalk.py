"""DeepWalk: walks, expected visits, and vectors that separate the parts of a graph."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.encoders import deepwalk
from dgl_rbm.encoders.deepwalk import DeepWalkEncoder
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext


def clique(nodes: range) -> list[tuple[int, int]]:
    return [(u, v) for u in nodes for v in nodes if u != v]


def test_two_disconnected_cliques_lie_apart(observed_graph: Any) -> None:
    observed = observed_graph(clique(range(6)) + clique(range(6, 12)), 12)
    encoder = DeepWalkEncoder(dim=8, walk_length=20, walks_per_node=20, epochs=5, consistent=False)
    vectors = encoder.fit(observed, RunContext(seed=0)).vectors
    directions = torch.nn.functional.normalize(vectors, dim=1)
    cosines = directions @ directions.t()
    within = torch.cat([cosines[:6, :6].flatten(), cosines[6:, 6:].flatten()])
    assert within.min() > cosines[:6, 6:].max() + 0.3


def test_nodes_that_meet_nobody_have_zeros(observed_graph: Any) -> None:
    edges = [(0, 1), (1, 0), (2, 2)]
    vectors = DeepWalkEncoder(dim=4, consistent=False).fit(observed_graph(edges, 4), RunContext()).vectors
    assert bool(vectors[:2].any(dim=1).all())
    assert not vectors[2:].any()


def test_walks_that_end_early_are_cut_there(observed_graph: Any) -> None:
    observed = observed_graph([(0, 1), (1, 2), (3, 2)], 5)
    walks = deepwalk.Walks(observed.graph, walk_length=4, walks_per_node=2)
    rows = np.concatenate(list(walks.batches(seed=1)))
    assert sorted(map(tuple, rows.tolist())) == sorted([(0, 1, 2, -1), (1, 2, -1, -1), (3, 2, -1, -1)] * 2)
    vectors = DeepWalkEncoder(dim=4, consistent=False).fit(observed, RunContext()).vectors
    assert bool(vectors[:4].any(dim=1).all())
    assert not vectors[4].any()


def test_walks_follow_edges_and_repeat(observed_graph: Any) -> None:
    edges = [*clique(range(4)), (4, 0), (0, 4), (1, 1)]
    walks = deepwalk.Walks(observed_graph(edges, 5).graph, walk_length=10, walks_per_node=3)
    rows = np.concatenate(list(walks.batches(seed=5)))
    assert sorted(rows[:, 0].tolist()) == sorted(list(range(5)) * 3)
    for row in rows.tolist():
        for u, v in itertools.pairwise(row):
            assert (u, v) in edges
            assert u != v
    np.testing.assert_array_equal(rows, np.concatenate(list(walks.batches(seed=5))))
    assert not np.array_equal(rows, np.concatenate(list(walks.batches(seed=6))))


def test_memory_is_bounded_by_batches(observed_graph: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(deepwalk, "_NODES_AT_ONCE", 20)
    observed = observed_graph(clique(range(7)), 7)
    walks = deepwalk.Walks(observed.graph, walk_length=10, walks_per_node=2)
    batches = list(walks.batches(seed=0))
    assert len(batches) == len(walks) == 8
    assert max(len(batch) for batch in batches) == 2
    vectors = DeepWalkEncoder(dim=4, walk_length=10, walks_per_node=2, epochs=2).fit(observed, RunContext()).vectors
    assert bool(vectors.any(dim=1).all())


def test_an_exception_in_a_callback_stops_the_training(observed_graph: Any) -> None:
    class Stop(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if done == 2:
                raise KeyboardInterrupt

    encoder = DeepWalkEncoder(dim=4, walks_per_node=1, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(observed_graph(clique(range(3)), 3), RunContext(callbacks=[Stop()]))


def transition_matrix(edges: list[tuple[int, int]], nodes: int) -> torch.Tensor:
    """Return the share of u's exits that lead to v, entry by entry, float64 ``[u, v]``."""
    matrix = torch.zeros(nodes, nodes, dtype=torch.float64)
    for u, v in edges:
        if u != v:
            matrix[u, v] += 1
    return matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)


SMALL = [(0, 1), (1, 0), (1, 2), (1, 2), (2, 0), (2, 2), (2, 3), (4, 1)]


def test_expected_visits_are_sums_of_powers_of_the_transition_matrix(observed_graph: Any) -> None:
    graph = observed_graph(SMALL, 6).graph
    walks = deepwalk.Walks(graph, walk_length=6, walks_per_node=1)
    present = torch.zeros(6, dtype=torch.float64)
    present[[0, 1, 2, 4]] = 1
    expected = present.clone()
    for _ in range(5):
        present = present @ transition_matrix(SMALL, 6)
        expected += present
    visits = deepwalk.expected_visits(in_neighbors(graph), walks.starts, 6)
    torch.testing.assert_close(visits.double(), expected)


def test_walks_take_each_exit_as_often_as_it_occurs(observed_graph: Any) -> None:
    # Many copies of the graph side by side: a round of walks has one from each node.
    copies = 200
    graph = observed_graph([(u + 6 * i, v + 6 * i) for i in range(copies) for u, v in SMALL], 6 * copies).graph
    for typed in (graph, graph.int()):
        walks = torch.cat(list(deepwalk.Walks(typed, walk_length=20, walks_per_node=20).batches(seed=2)))
        assert len(walks) == 20 * 4 * copies  # four of the nodes have an exit
        steps = torch.stack([walks[:, :-1].flatten(), walks[:, 1:].flatten()])
        steps = steps[:, (steps >= 0).all(dim=0)]
        assert torch.equal(steps[0] // 6, steps[1] // 6), "a walk left its copy"
        steps %= 6
        seen = torch.zeros(6, 6, dtype=torch.float64).index_put_(
            (steps[0], steps[1]), torch.ones(1, dtype=torch.float64), accumulate=True
        )
        shares = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(shares, transition_matrix(SMALL, 6), rtol=0, atol=0.02)


def test_a_graph_is_not_given_another_form(observed_graph: Any) -> None:
    observed = observed_graph(SMALL, 6)
    before = observed.graph.formats()["created"]
    DeepWalkEncoder(dim=4, walk_length=5).fit(observed, RunContext())
    assert observed.graph.formats()["created"] == before


def test_walks_longer_than_a_tile_tell_cliques_apart(observed_graph: Any) -> None:
    observed = observed_graph(clique(range(6)) + clique(range(6, 12)), 12)
    encoder = DeepWalkEncoder(dim=8, walk_length=150, walks_per_node=20, consistent=False)
    directions = torch.nn.functional.normalize(encoder.fit(observed, RunContext(seed=0)).vectors, dim=1)
    cosines = directions @ directions.t()
    assert cosines[:6, :6].min() > cosines[:6, 6:].max() + 0.3

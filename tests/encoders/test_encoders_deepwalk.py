"""DeepWalk tells parts of a graph apart."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm.encoders import deepwalk
from dgl_rbm.encoders.deepwalk import DeepWalkEncoder
from dgl_rbm.training.callbacks import Callback
from dgl_rbm.training.context import RunContext


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
    walks = deepwalk._Walks(observed.graph, walk_length=4, walks_per_node=2)
    rows = np.concatenate(list(walks.batches(seed=1)))
    assert sorted(map(tuple, rows.tolist())) == sorted([(0, 1, 2, -1), (1, 2, -1, -1), (3, 2, -1, -1)] * 2)
    vectors = DeepWalkEncoder(dim=4, consistent=False).fit(observed, RunContext()).vectors
    assert bool(vectors[:4].any(dim=1).all())
    assert not vectors[4].any()


def test_walks_follow_edges_and_repeat(observed_graph: Any) -> None:
    edges = [*clique(range(4)), (4, 0), (0, 4), (1, 1)]
    walks = deepwalk._Walks(observed_graph(edges, 5).graph, walk_length=10, walks_per_node=3)
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
    walks = deepwalk._Walks(observed.graph, walk_length=10, walks_per_node=2)
    batches = list(walks.batches(seed=0))
    assert len(batches) == len(walks) == 8
    assert max(len(batch) for batch in batches) == 2
    vectors = DeepWalkEncoder(dim=4, walk_length=10, walks_per_node=2, epochs=2).fit(observed, RunContext()).vectors
    assert bool(vectors.any(dim=1).all())


def test_an_exception_in_a_callback_stops_the_training(observed_graph: Any) -> None:
    class Stop(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            # The first pass counts, the second trains.
            if done == 2:
                raise KeyboardInterrupt

    encoder = DeepWalkEncoder(dim=4, walks_per_node=1, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(observed_graph(clique(range(3)), 3), RunContext(callbacks=[Stop()]))

"""Neighbours, means over them, and what all encoders have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.encoders.common import NeighborMean, in_neighbors
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext

NODES = 6
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=20)


def mean_matrix(edges: list[tuple[int, int]]) -> torch.Tensor:
    """Return the matrix that takes means over in-neighbours, entry by entry."""
    matrix = torch.zeros(NODES, NODES)
    for node in range(NODES):
        neighbors = [u for u, v in edges if v == node and u != node]
        for u in neighbors:
            matrix[node, u] += 1 / len(neighbors)
    return matrix


@given(some_edges)
def test_means_leave_out_self_loops_and_count_repeated_edges(observed_graph: Any, edges: list[tuple[int, int]]) -> None:
    graph = observed_graph(edges, NODES).graph
    mean, vectors = NeighborMean(graph), torch.randn(NODES, 3)
    torch.testing.assert_close(mean(vectors), mean_matrix(edges) @ vectors)
    torch.testing.assert_close(mean.transposed(vectors), mean_matrix(edges).t() @ vectors)
    assert mean(torch.zeros(NODES, 0)).shape == (NODES, 0)


@given(some_edges)
def test_in_neighbors_counts_edges_and_leaves_the_graph_alone(
    observed_graph: Any, edges: list[tuple[int, int]]
) -> None:
    graph = observed_graph(edges, NODES).graph
    counts = in_neighbors(graph).to_dense()
    for v in range(NODES):
        for u in range(NODES):
            assert counts[v, u] == (0 if u == v else edges.count((u, v)))
    assert graph.num_edges() == len(edges)
    assert not graph.ndata
    assert not graph.edata


def test_in_neighbors_takes_graphs_with_small_ids(observed_graph: Any) -> None:
    graph = observed_graph([(0, 1), (2, 1), (1, 1)], 3).graph
    assert torch.equal(in_neighbors(graph.int()).to_dense(), in_neighbors(graph).to_dense())


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "deepwalk": {"dim": 4, "walk_length": 5, "walks_per_node": 2},
    "spectral": {"dim": 4, "steps": 2},
    "diffusion": {"dim": 2},
    "label_propagation": {"steps": 3},
}


@pytest.fixture(params=sorted(OPTIONS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path_graph(observed_graph: Callable[..., Any]) -> Any:
    """Return the path 0 - 1 - 2 - 3 beside the lonely nodes 4 and 5, the last with a self-loop."""
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (5, 5)]
    features = torch.randn(NODES, 3, generator=torch.Generator().manual_seed(1))
    return observed_graph(edges, NODES, features=features, labels=[0, 1, 0, 1, 0, -1], train=[0, 1, 4], val=[2, 3])


@pytest.mark.parametrize("consistent", [True, False])
def test_encoders_give_float_rows_and_repeat_themselves(kind: str, consistent: bool, path_graph: Any) -> None:
    config = encoders.resolve({"kind": kind, "consistent": consistent, **OPTIONS[kind]})
    first, second = (config.build().fit(path_graph, RunContext(seed=3)) for _ in range(2))
    for values, again in ((first.vectors, second.vectors), (first.encodings, second.encodings)):
        assert values.shape[0] == NODES
        assert values.dtype == torch.float32
        assert bool(torch.isfinite(values).all())
        assert torch.equal(values, again)
    assert first.vectors.shape == first.encodings.shape
    assert not path_graph.graph.ndata
    assert not path_graph.graph.edata


@pytest.mark.parametrize("kind", ["deepwalk", "spectral", "diffusion"])
def test_consistent_encodings_are_means_of_the_stored_vectors(kind: str, path_graph: Any) -> None:
    def fit(consistent: bool) -> Any:
        config = encoders.resolve({"kind": kind, "consistent": consistent, **OPTIONS[kind]})
        return config.build().fit(path_graph, RunContext(seed=3))

    own, means = fit(False), fit(True)
    assert torch.equal(own.encodings, own.vectors)
    assert torch.equal(means.vectors, own.vectors)
    torch.testing.assert_close(means.encodings[0], means.vectors[1])
    torch.testing.assert_close(means.encodings[1], (means.vectors[0] + means.vectors[2]) / 2)
    assert not means.encodings[4:].any()


def test_seeds_change_what_is_random(path_graph: Any) -> None:
    encoder = encoders.resolve({"kind": "deepwalk", **OPTIONS["deepwalk"]}).build()
    first, second = (encoder.fit(path_graph, RunContext(seed=seed)).vectors for seed in (1, 2))
    assert not torch.equal(first, second)


def test_encoders_report_progress_up_to_their_total(kind: str, path_graph: Any) -> None:
    stages: list[tuple[str, int]] = []
    steps: list[int] = []

    class Recorder(Callback):
        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            stages.append((stage, total))

        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            steps.append(done)

    encoders.resolve({"kind": kind, **OPTIONS[kind]}).build().fit(path_graph, RunContext(callbacks=[Recorder()]))
    # No encoder, no stage.
    assert stages == ([] if kind == "none" else [("encoder", len(steps))])
    assert steps == list(range(1, len(steps) + 1))


def test_encoders_work_on_a_graph_without_edges(kind: str, observed_graph: Any) -> None:
    lonely = observed_graph([], 3, features=torch.eye(3), labels=[0, 1, -1], train=[0], val=[1])
    output = encoders.resolve({"kind": kind, **OPTIONS[kind]}).build().fit(lonely, RunContext())
    assert output.encodings.shape == output.vectors.shape
    assert not output.encodings.any()


def test_an_option_that_an_encoder_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="dim"):
        encoders.resolve({"kind": "label_propagation", "dim": 3})

"""Edge weights: where they come from, what is refused, and their place in the graph, against dense matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data import make_task, task_from_graph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.file import FileConfig
from dgl_rbm.data.load import load_task
from dgl_rbm.data.neighbors import NeighborMean, gather_in_neighbors, in_neighbors
from dgl_rbm.data.structure import WEIGHT, compressed, induced, structure, symmetrized
from dgl_rbm.errors import DataError, DataWarning
from dgl_rbm.run.fingerprint import graph_digest

NODES = 6
node = st.integers(0, NODES - 1)
weighted_edges = st.lists(st.tuples(node, node, st.sampled_from([0.0, 0.25, 1.0, 3.0])), max_size=20)
EDGES = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.0, 4.0]


def graph_of(edges: list[Any], form: str = "coo") -> Any:
    source, destination = (torch.tensor([edge[end] for edge in edges], dtype=torch.int64) for end in (0, 1))
    return dgl.graph((source, destination), num_nodes=NODES).formats(form)


def weights_of(edges: list[Any]) -> np.ndarray:
    return np.array([edge[2] for edge in edges], dtype=np.float32)


def matrix(edges: list[Any]) -> torch.Tensor:
    """Return the sums of the weights by destination and source, edge by edge."""
    found = torch.zeros(NODES, NODES)
    for u, v, weight in edges:
        found[v, u] += weight
    return found


def matrix_of(graph: Any) -> torch.Tensor:
    pointers, sources, _ = graph.adj_tensors("csc")
    found = torch.zeros(graph.num_nodes(), graph.num_nodes())
    for v in range(graph.num_nodes()):
        for edge in range(int(pointers[v]), int(pointers[v + 1])):
            found[v, sources[edge]] += graph.edata[WEIGHT][edge]
    return found


def task(edges: list[Any] = EDGES, **options: Any) -> Any:
    parts = {"features": np.eye(NODES), "labels": [0, 1] * 3, "train": [0, 1], "val": [2, 3], "test": [4, 5]}
    return make_task(graph_of(edges), **parts | options)


@given(weighted_edges, st.sampled_from(["coo", "csr", "csc"]))
def test_weights_stay_with_their_edges_in_every_format(edges: list[Any], form: str) -> None:
    kept = structure(graph_of(edges, form), weights_of(edges))
    assert kept.formats()["created"] == ["csc"]
    assert torch.equal(matrix_of(kept), matrix(edges))
    assert kept.num_edges() == sum(weight > 0 for *_, weight in edges), "edges of weight 0 are left out"
    assert torch.equal(matrix_of(structure(kept, kept.edata[WEIGHT].numpy())), matrix(edges))


@given(weighted_edges)
def test_a_symmetric_graph_has_the_largest_weight_of_each_pair(edges: list[Any]) -> None:
    largest = torch.zeros(NODES, NODES)
    for u, v, weight in edges:
        largest[v, u] = max(largest[v, u], weight)
    both = symmetrized(graph_of(edges), weights_of(edges))
    assert torch.equal(matrix_of(both), torch.maximum(largest, largest.t()))
    assert both.num_edges() == int((matrix_of(both) > 0).sum())
    assert torch.equal(matrix_of(symmetrized(both, both.edata[WEIGHT].numpy())), matrix_of(both))


@given(weighted_edges, st.lists(st.booleans(), min_size=NODES, max_size=NODES))
def test_a_part_of_a_graph_keeps_its_weights(edges: list[Any], seen: list[bool]) -> None:
    part = induced(structure(graph_of(edges), weights_of(edges)), np.array(seen))
    assert torch.equal(matrix_of(part), matrix(edges)[seen][:, seen])


@given(weighted_edges)
def test_means_over_neighbors_are_weighted(edges: list[Any]) -> None:
    graph, vectors = structure(graph_of(edges), weights_of(edges)), torch.randn(NODES, 3)
    sums = matrix(edges).fill_diagonal_(0)
    dense = sums / sums.sum(dim=1, keepdim=True).clamp(min=1e-9)
    mean = NeighborMean(graph)
    torch.testing.assert_close(in_neighbors(graph).to_dense(), sums)
    torch.testing.assert_close(mean(vectors), dense @ vectors)
    torch.testing.assert_close(mean.transposed(vectors), dense.t() @ vectors)
    present = torch.tensor([True, False] * 3)
    kept = sums * present
    kept = kept / kept.sum(dim=1, keepdim=True).clamp(min=1e-9)
    among = mean.among(torch.tensor([4, 0]), vectors * present[:, None], present)
    torch.testing.assert_close(among, (kept @ vectors)[[4, 0]])


@given(weighted_edges, st.sampled_from([0.125, 1.0, 7.0]))
def test_equal_weights_give_the_unweighted_mean(edges: list[Any], weight: float) -> None:
    graph, vectors = graph_of(edges), torch.randn(NODES, 3)
    equal = structure(graph, np.full(len(edges), weight, dtype=np.float32))
    torch.testing.assert_close(NeighborMean(equal)(vectors), NeighborMean(graph)(vectors))


def test_gathered_neighbors_come_with_their_weights() -> None:
    graph = structure(graph_of([(0, 2, 3.0), (1, 2, 5.0), (2, 0, 7.0)]), np.array([3.0, 5.0, 7.0], np.float32))
    indptr, sources = (torch.from_numpy(part).long() for part in compressed(graph))
    found = gather_in_neighbors(indptr, sources, torch.tensor([2, 1, 0]), graph.edata[WEIGHT])
    assert [part.tolist() for part in found if part is not None] == [[0, 0, 2], [0, 1, 2], [3.0, 5.0, 7.0]]


@pytest.mark.parametrize(
    "given_weights",
    [
        WEIGHTS,
        np.array(WEIGHTS)[:, None],
        torch.tensor(WEIGHTS, dtype=torch.float64),
        torch.tensor(WEIGHTS)[:, None].half(),
        pd.Series(WEIGHTS, index=[5, 4, 3, 2, 1, 0]),
    ],
)
def test_weights_are_given_as_an_array(given_weights: Any) -> None:
    with pytest.warns(DataWarning, match="1 of 6 edges have the weight 0"):
        found = task(edge_weight=given_weights)
    edges = [(*ends, weight) for ends, weight in zip(EDGES, WEIGHTS, strict=True)]
    assert torch.equal(matrix_of(found.graph), matrix(edges))
    assert found.graph.edata[WEIGHT].dtype == torch.float32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (WEIGHTS[:5], r"shape \(5,\).*6 edges"),
        (np.ones((6, 2)), r"shape \(6, 2\)"),
        (3.0, r"shape \(\)"),
        ([1, 1, -2, 1, 1, 1], "edge 2 is -2, negative"),
        ([1, np.nan, 1, np.inf, 1, 1], "edge 1 is nan, not a finite number.*1 others"),
        ([1e300] * 6, "edge 0 is inf"),
        ([1e38] * 6, "above 1e.30"),
        (np.array([1j] * 6), "complex"),
        (["a"] * 6, "edge weights"),
        ("wieght", "no edge field 'wieght'"),
    ],
)
def test_other_values_are_refused_with_the_edge(wrong: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(edge_weight=wrong)


def fields_graph() -> Any:
    graph = graph_of(EDGES)
    graph.ndata["feat"], graph.ndata["label"] = torch.eye(NODES), torch.tensor([0, 1] * 3)
    graph.ndata["age"] = torch.arange(NODES)
    graph.edata["weight"], graph.edata["cost"] = torch.arange(1.0, 7), torch.arange(2.0, 8)
    return graph


@pytest.mark.parametrize(
    ("option", "expected", "note"),
    [
        (None, [1.0, 2, 3, 4, 5, 6], "'weight' contains the edge weights"),
        ("cost", [2.0, 3, 4, 5, 6, 7], "edge fields are not used: weight"),
        ("", None, "edge fields are not used: cost, weight"),
        ("none", None, "edge fields are not used: cost, weight"),
        (False, None, "edge fields are not used: cost, weight"),
    ],
)
def test_a_field_is_used_by_name_and_others_are_named(option: Any, expected: Any, note: str, tmp_path: Path) -> None:
    graph = fields_graph()
    path = tmp_path / "graph.bin"
    dgl.save_graphs(str(path), [graph])
    loaders = [lambda: task_from_graph(graph, split="0.4/0.3/0.3", edge_weight=option)]
    if option is not False:
        config = FileConfig(path=str(path), edge_weight=option, split="0.4/0.3/0.3")
        loaders.append(lambda: load_task(config))
    for load in loaders:
        with pytest.warns(DataWarning):
            found = load()
        assert any(note in text for text in found.notes)
        assert "these node fields are not used: age." in found.notes
        if expected is None:
            assert WEIGHT not in found.graph.edata
        else:
            edges = [(*ends, weight) for ends, weight in zip(EDGES, expected, strict=True)]
            assert torch.equal(matrix_of(found.graph), matrix(edges))


def test_a_missing_field_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"no edge field 'wieght'.*Did you mean 'weight'"):
        task_from_graph(fields_graph(), split="0.4/0.3/0.3", edge_weight="wieght")


def test_weights_are_part_of_keys_and_digests() -> None:
    plain, one, other = task(), task(edge_weight=[1.0] * 6), task(edge_weight=[1.0] * 5 + [2.0])
    assert len({graph_digest(found.observed()) for found in (plain, one, other)}) == 3
    assert len({found.digests()["edges"] for found in (plain, one, other)}) == 3

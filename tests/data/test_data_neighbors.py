"""In-neighbours and means over them, against plain loops."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.neighbors import NeighborMean, gather_in_neighbors, in_neighbors
from dgl_rbm.data.structure import compressed

NODES = 6
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=20)


def graph_of(edges: list[tuple[int, int]], count: int = NODES) -> Any:
    source, destination = (torch.tensor([edge[end] for edge in edges], dtype=torch.int64) for end in (0, 1))
    return dgl.graph((source, destination), num_nodes=count)


def mean_matrix(edges: list[tuple[int, int]]) -> torch.Tensor:
    """Return the row-normalised adjacency matrix, built entry by entry."""
    matrix = torch.zeros(NODES, NODES)
    for node in range(NODES):
        neighbors = [u for u, v in edges if v == node and u != node]
        for u in neighbors:
            matrix[node, u] += 1 / len(neighbors)
    return matrix


@given(some_edges)
def test_means_ignore_self_loops_and_count_parallel_edges(edges: list[tuple[int, int]]) -> None:
    mean, vectors = NeighborMean(graph_of(edges)), torch.randn(NODES, 3)
    torch.testing.assert_close(mean(vectors), mean_matrix(edges) @ vectors)
    torch.testing.assert_close(mean.transposed(vectors), mean_matrix(edges).t() @ vectors)
    assert mean(torch.zeros(NODES, 0)).shape == (NODES, 0)


@given(some_edges, st.sets(st.integers(0, NODES - 1)))
def test_means_among_present_nodes_equal_means_in_the_graph_without_the_others(
    edges: list[tuple[int, int]], absent: set[int]
) -> None:
    present = torch.tensor([node not in absent for node in range(NODES)])
    vectors = torch.randn(NODES, 3) * present[:, None]
    kept = [(u, v) for u, v in edges if u not in absent]
    ids = torch.tensor([4, 0, 4])
    torch.testing.assert_close(
        NeighborMean(graph_of(edges)).among(ids, vectors, present), (mean_matrix(kept) @ vectors)[ids]
    )


@given(some_edges)
def test_in_neighbors_counts_edges_and_does_not_change_the_graph(edges: list[tuple[int, int]]) -> None:
    graph = graph_of(edges)
    counts = in_neighbors(graph).to_dense()
    for v in range(NODES):
        for u in range(NODES):
            assert counts[v, u] == (0 if u == v else edges.count((u, v)))
    assert graph.num_edges() == len(edges)
    assert not graph.ndata
    assert not graph.edata


def test_in_neighbors_accepts_graphs_with_int32_ids() -> None:
    graph = graph_of([(0, 1), (2, 1), (1, 1)], 3)
    assert torch.equal(in_neighbors(graph.int()).to_dense(), in_neighbors(graph).to_dense())


@given(some_edges, st.lists(st.integers(0, NODES - 1), max_size=4))
def test_gathered_in_neighbors_are_the_sources_of_each_nodes_edges(
    edges: list[tuple[int, int]], node_ids: list[int]
) -> None:
    indptr, sources = (torch.from_numpy(part).long() for part in compressed(graph_of(edges)))
    rows, neighbor_ids, _ = gather_in_neighbors(indptr, sources, torch.tensor(node_ids, dtype=torch.int64))
    expected = [(i, u) for i, node in enumerate(node_ids) for u, v in sorted(edges) if v == node]
    assert list(zip(rows.tolist(), neighbor_ids.tolist(), strict=True)) == expected

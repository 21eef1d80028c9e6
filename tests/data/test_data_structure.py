"""The compressed form of a graph, against plain lists of edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data import make_task
from dgl_rbm.data import structure as module
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import (
    compressed,
    from_compressed,
    induced,
    row_windows,
    structure,
    symmetrized,
)

FORMS = ("coo", "csr", "csc")


@st.composite
def edge_lists(draw):
    count = draw(st.integers(1, 9))
    node = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(node, node), max_size=30))


def made(count, edges, form="coo"):
    ends = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    return dgl.graph((ends[:, 0], ends[:, 1]), num_nodes=count).formats(form)


def listed(graph):
    """Return the edges by destination, then source, as a plain loop over the compressed form finds them."""
    pointers, sources, _ = graph.adj_tensors("csc")
    return [(int(u), v) for v in range(graph.num_nodes()) for u in sources[pointers[v] : pointers[v + 1]]]


def by_destination(edges):
    return sorted(edges, key=lambda edge: edge[::-1])


@pytest.fixture(params=[3, 2**23], autouse=True)
def _windows(request, monkeypatch):
    monkeypatch.setattr(module, "_EDGES_AT_ONCE", request.param)
    monkeypatch.setattr(row_windows, "__defaults__", (request.param,))


@given(edge_lists(), st.sampled_from(FORMS))
def test_every_format_is_converted_to_csc(graph, form):
    count, edges = graph
    given_graph = made(count, edges, form)
    kept = structure(given_graph)
    assert kept.formats()["created"] == ["csc"]
    assert given_graph.formats()["created"] == [form], "the caller's graph got another form"
    assert listed(kept) == by_destination(edges)
    assert listed(structure(kept)) == by_destination(edges)
    assert kept.idtype == torch.int64


@given(edge_lists(), st.randoms(use_true_random=False))
def test_the_order_of_sources_does_not_matter(graph, random):
    count, edges = graph
    indptr, sources = compressed(made(count, edges))
    rows = [list(sources[indptr[v] : indptr[v + 1]]) for v in range(count)]
    for row in rows:
        random.shuffle(row)
    shuffled = from_compressed(indptr, np.array([u for row in rows for u in row], dtype=np.int64))
    assert listed(structure(shuffled)) == by_destination(edges)
    assert list(compressed(shuffled)[1]) == list(sources)


def test_a_sorted_graph_is_copied_unless_it_may_be_shared():
    graph = structure(made(3, [(0, 1), (1, 2), (2, 2)]))
    place = [part.data_ptr() for part in graph.adj_tensors("csc")[:2]]
    assert [part.data_ptr() for part in structure(graph, share=True).adj_tensors("csc")[:2]] == place
    copied = structure(graph)
    for part in graph.adj_tensors("csc")[:2]:
        part.zero_()
    assert listed(copied) == [(0, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize("form", FORMS)
def test_a_task_does_not_share_the_users_arrays(form):
    ring = torch.arange(6)
    parts = (ring, ring.roll(-1)) if form == "coo" else (torch.arange(7), ring.roll(-1))
    given_graph = dgl.graph(
        parts if form == "coo" else (form, (*parts, torch.empty(0, dtype=torch.int64))), num_nodes=6
    )
    masks = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}
    task = make_task(given_graph, features=np.eye(6), labels=[0, 1] * 3, **masks)
    before = listed(task.graph)
    assert len(set(before)) == 6
    for part in parts:
        part.zero_()
    assert listed(task.graph) == before


@given(edge_lists())
def test_symmetrized_has_each_edge_once_in_both_directions(graph):
    count, edges = graph
    assert listed(symmetrized(made(count, edges))) == by_destination({*edges, *((v, u) for u, v in edges)})


def test_repeated_edges_are_merged():
    assert listed(symmetrized(made(2, [(0, 1)] * 300))) == [(1, 0), (0, 1)]


@given(edge_lists(), st.data())
def test_induced_keeps_the_edges_between_seen_nodes(graph, data):
    count, edges = graph
    seen = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    number = {node: i for i, node in enumerate(np.flatnonzero(seen))}
    part = induced(made(count, edges), np.array(seen))
    assert part.num_nodes() == sum(seen)
    expected = [(number[u], number[v]) for u, v in edges if seen[u] and seen[v]]
    assert listed(part) == by_destination(expected)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 12))
def test_windows_cover_all_rows_and_are_bounded(degrees, at_once):
    indptr = np.concatenate([[0], np.cumsum(degrees, dtype=np.int64)]).astype(np.int64)
    windows = list(row_windows(indptr, at_once))
    assert [row for first, last in windows for row in range(first, last)] == list(range(len(degrees)))
    for first, last in windows:
        assert last == first + 1 or sum(degrees[first:last]) <= at_once

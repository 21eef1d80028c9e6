"""Layer-wise inference: its blocks, its progress, and what it leaves in the graph."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import structure
from dgl_rbm.teachers.layerwise import full_neighborhoods, layerwise_output
from dgl_rbm.teachers.sage import SAGE
from dgl_rbm.teachers.sampling import Placement

CPU = Placement(torch.device("cpu"), full_graph_fits=False, graph_on="cpu")


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30))
    ),
    st.integers(1, 4),
    st.integers(1, 12),
    st.booleans(),
)
def test_blocks_hold_all_in_edges_of_successive_nodes(case, nodes_at_once, edges_at_once, compressed) -> None:
    count, edges = case
    ends = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    graph = dgl.graph((ends[:, 0], ends[:, 1]), num_nodes=count)
    graph = structure(graph) if compressed else graph
    seen, found, annotated = [], [], []
    for inputs, block in full_neighborhoods(
        graph, nodes_at_once, edges_at_once, lambda whole, part: annotated.append((whole, part))
    ):
        seeds = inputs[: block.num_dst_nodes()]
        assert len(seeds) <= nodes_at_once
        assert len(seeds) == 1 or block.num_edges() <= edges_at_once
        assert len(set(inputs.tolist())) == len(inputs) == block.num_src_nodes()
        assert torch.equal(block.srcdata[dgl.NID], inputs)
        assert torch.equal(block.dstdata[dgl.NID], seeds)
        assert annotated[-1][0] is graph
        assert annotated[-1][1] is block
        seen += seeds.tolist()
        source, destination = block.edges()
        found += zip(inputs[source].tolist(), inputs[destination].tolist(), strict=True)
    assert seen == list(range(count))
    assert sorted(found) == sorted(edges)


def test_progress_counts_the_rows_of_all_layers_and_hidden_states_are_kept_on_request() -> None:
    generator = torch.Generator().manual_seed(0)
    graph = structure(dgl.graph(tuple(torch.randint(50, (2, 300), generator=generator)), num_nodes=50))
    module, told = SAGE(4, 3, hidden_dim=5, num_layers=3).eval(), []
    x = torch.randn(50, 4, generator=generator)
    output = layerwise_output(
        module,
        graph,
        x,
        CPU,
        nodes_at_once=20,
        return_hidden=False,
        report=lambda done, total: told.append((done, total)),
    )
    assert output.hidden is None
    assert [done for done, _ in told] == [50 * layer + done for layer in range(3) for done in (20, 40, 50)]
    assert {total for _, total in told} == {150}
    assert graph.formats()["created"] == ["csc"], "another form of the graph was made"
    logits, hidden = module(graph, x, return_hidden=True)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(layerwise_output(module, graph, x, CPU).hidden, hidden)

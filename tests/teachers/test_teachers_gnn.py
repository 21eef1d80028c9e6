"""Convolutions against plain loops, and the different ways to run a layered GNN against each other."""

from __future__ import annotations

import dataclasses
import math

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.teachers.gcn import GCN, GCNLayer
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.inference import full_graph_output, layerwise_output, predict_nodes
from dgl_rbm.teachers.sage import SAGE, SAGELayer
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement

CPU = Placement(torch.device("cpu"), full_graph_fits=True, graph_on="cpu")
MODULES = {
    "sage-gcn": lambda **options: SAGE(6, 3, aggregator="gcn", **options),
    "sage-mean": lambda **options: SAGE(6, 3, aggregator="mean", **options),
    "sage-pool": lambda **options: SAGE(6, 3, aggregator="pool", **options),
    "gcn": lambda **options: GCN(6, 3, **options),
}
gnns = pytest.mark.parametrize("name", list(MODULES))


def make(name: str, **options: object) -> LayeredGNN:
    torch.manual_seed(3)
    return MODULES[name](**({"hidden_dim": 5, "num_layers": 3} | options)).eval()


def sparse(dense: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(dense.numpy()))


def in_neighbors(graph: object, node: int) -> list[int]:
    source, destination = (part.tolist() for part in graph.edges())
    return [u for u, v in zip(source, destination, strict=True) if v == node]


def reference_sage(layer: SAGELayer, graph: object, x: Tensor) -> Tensor:
    rows = []
    for node in range(graph.num_nodes()):
        near = in_neighbors(graph, node)
        if layer.aggregator == "gcn":
            total = x[node].clone()
            for u in near:
                total += x[u]
            rows.append(layer.conv.fc_neigh.weight @ (total / (len(near) + 1)) + layer.conv.bias)
        else:
            mean = torch.zeros(x.shape[1])
            for u in near:
                mean += x[u] / len(near)
            rows.append(
                layer.conv.fc_self.weight @ x[node] + layer.conv.fc_self.bias + layer.conv.fc_neigh.weight @ mean
            )
    return torch.stack(rows)


def reference_gcn(layer: GCNLayer, graph: object, x: Tensor) -> Tensor:
    near = [in_neighbors(graph, node) for node in range(graph.num_nodes())]
    near = [found if node in found else [*found, node] for node, found in enumerate(near)]
    out_degree = [sum(found.count(node) for found in near) for node in range(len(near))]
    rows = []
    for found in near:
        total = torch.zeros(x.shape[1])
        for u in found:
            total += x[u] / math.sqrt(out_degree[u] * len(found))
        rows.append(total @ layer.weight + layer.bias)
    return torch.stack(rows)


@st.composite
def small_graphs(draw: st.DrawFn) -> object:
    """Directed graphs with self-loops, repeated edges, isolated nodes, or no edges at all."""
    count = draw(st.integers(1, 6))
    node = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=14))
    source, destination = ([edge[i] for edge in edges] for i in (0, 1))
    ends = (torch.tensor(source, dtype=torch.int64), torch.tensor(destination, dtype=torch.int64))
    return dgl.graph(ends, num_nodes=count)


# Three columns in: a wider and a narrower output take the two orders of projecting and aggregating.
widths = pytest.mark.parametrize("out_dim", [2, 5])


@widths
@pytest.mark.parametrize("aggregator", ["gcn", "mean"])
@given(graph=small_graphs(), seed=st.integers(0, 99))
def test_sage_layer_equals_plain_loops(aggregator: str, out_dim: int, graph: object, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = SAGELayer(3, out_dim, aggregator), torch.randn(graph.num_nodes(), 3)
    expected = reference_sage(layer, graph, x)
    torch.testing.assert_close(layer(graph, x), expected)
    torch.testing.assert_close(layer(graph, sparse(x)), expected)


@widths
@given(graph=small_graphs(), seed=st.integers(0, 99))
def test_gcn_layer_equals_plain_loops(out_dim: int, graph: object, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = GCNLayer(3, out_dim), torch.randn(graph.num_nodes(), 3)
    nn.init.normal_(layer.bias)
    expected = reference_gcn(layer, graph, x)
    torch.testing.assert_close(layer(graph, x), expected)
    torch.testing.assert_close(layer(graph, sparse(x)), expected)


def test_gcn_layer_equals_dgls_own_on_a_graph_with_loops(observed: ObservedGraph) -> None:
    layer = GCNLayer(6, 4)
    theirs = dgl.nn.GraphConv(6, 4, norm="both", weight=False, bias=False)
    expected = theirs(dgl.add_self_loop(observed.graph), observed.features, weight=layer.weight)
    torch.testing.assert_close(layer(observed.graph, observed.features), expected)
    torch.testing.assert_close(layer(dgl.add_self_loop(observed.graph), observed.features), expected)


@gnns
@pytest.mark.parametrize("hidden_dim", [4, 9])
def test_sparse_features_give_the_dense_outputs_and_gradients(
    name: str, hidden_dim: int, observed: ObservedGraph
) -> None:
    module = make(name, hidden_dim=hidden_dim)
    target = torch.randn(len(observed), 3)
    results = []
    for x in (observed.features, sparse(observed.features)):
        module.zero_grad()
        logits = module(observed.graph, x)
        (logits * target).sum().backward()
        results.append((logits.detach(), [parameter.grad.clone() for parameter in module.parameters()]))
    torch.testing.assert_close(results[0], results[1])
    assert all(gradient.abs().sum() > 0 for gradient in results[0][1])


@gnns
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_layerwise_inference_equals_the_full_forward(name: str, norm: str, observed: ObservedGraph) -> None:
    module = make(name, norm=norm)
    module.train()(observed.graph, observed.features)  # moves the running statistics of batch norm
    whole = full_graph_output(module, observed.graph, observed.features, CPU.device)
    for features, nodes_at_once in ((observed.features, 1000), (sparse(observed.features), 25)):
        parts = layerwise_output(module, observed.graph, features, CPU, nodes_at_once=nodes_at_once)
        torch.testing.assert_close(parts.logits, whole.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(parts.hidden, whole.hidden, atol=1e-5, rtol=0)
    assert not whole.logits.requires_grad
    assert whole.hidden.shape == (len(observed), 5)


@gnns
def test_blocks_of_all_neighbours_equal_the_full_forward(name: str, observed: ObservedGraph) -> None:
    module = make(name)
    seeds = torch.tensor([59, 3, 41, 17, 58])
    inputs, _, blocks = OrderedNeighborSampler([-1] * 3, module.annotate).sample_blocks(observed.graph, seeds)
    expected = module(observed.graph, observed.features)[seeds]
    for x in (observed.features, sparse(observed.features)):
        rows = x[inputs] if isinstance(x, Tensor) else x.take(inputs)
        torch.testing.assert_close(module(blocks, rows), expected)


@gnns
def test_predict_nodes_reads_the_neighbourhood_and_no_more(name: str, observed: ObservedGraph) -> None:
    module = make(name, num_layers=2)
    expected = module(observed.graph, observed.features)
    for node in (0, 33, 59):
        reached = {node}
        for _ in range(2):
            reached |= {u for v in reached for u in in_neighbors(observed.graph, v)}
        logits, fetched = predict_nodes(module, observed, torch.tensor([node]))
        torch.testing.assert_close(logits, expected[[node]])
        assert fetched == len(reached)
    repeated = torch.tensor([4, 1, 4])
    sparse_view = dataclasses.replace(observed, features=sparse(observed.features))
    torch.testing.assert_close(predict_nodes(module, sparse_view, repeated)[0], expected[repeated])


def test_predict_nodes_needs_to_know_the_depth(observed: ObservedGraph) -> None:
    with pytest.raises(ConfigError, match="num_layers"):
        predict_nodes(nn.Linear(6, 2), observed, torch.tensor([0]))


def test_gcn_on_sampled_blocks_is_unbiased(observed: ObservedGraph) -> None:
    layer = GCNLayer(6, 2)
    expected = layer(observed.graph, observed.features)
    seeds = torch.arange(10)
    sampler = OrderedNeighborSampler([3], GCN.annotate)
    dgl.seed(0)
    draws = []
    with torch.no_grad():
        for _ in range(200):
            inputs, _, (block,) = sampler.sample_blocks(observed.graph, seeds)
            draws.append(layer(block, observed.features[inputs]))
    drawn = torch.stack(draws)
    error = drawn.std(dim=0) / len(draws) ** 0.5
    assert ((drawn.mean(dim=0) - expected[seeds]).abs() < 5 * error + 1e-5).all()


def test_gcn_on_blocks_of_others_takes_their_degrees(observed: ObservedGraph) -> None:
    seeds = torch.arange(len(observed))
    _, _, (block,) = dgl.dataloading.NeighborSampler([-1], fused=False).sample_blocks(observed.graph, seeds)
    layer = GCNLayer(6, 2)
    rows = observed.features[block.srcdata[dgl.NID]]
    torch.testing.assert_close(layer(block, rows), layer(observed.graph, observed.features))


@gnns
def test_a_single_layer_shows_no_hidden_states(name: str, observed: ObservedGraph) -> None:
    module = make(name, num_layers=1)
    logits, hidden = module(observed.graph, observed.features, return_hidden=True)
    assert logits.shape == (len(observed), 3)
    assert hidden is None
    assert layerwise_output(module, observed.graph, observed.features, CPU).hidden is None


@gnns
def test_a_graph_without_edges_and_a_single_node_work(name: str) -> None:
    graph = dgl.graph(([], []), num_nodes=1)
    assert torch.isfinite(make(name)(graph, torch.ones(1, 6))).all()


@gnns
def test_no_trace_is_left_in_the_graph(name: str, observed: ObservedGraph) -> None:
    module, graph = make(name), observed.graph
    before = graph.num_edges()
    module(graph, observed.features, return_hidden=True)
    module(graph, sparse(observed.features))
    layerwise_output(module, graph, observed.features, CPU)
    predict_nodes(module, observed, torch.tensor([1]))
    assert not graph.ndata
    assert not graph.edata
    assert graph.num_edges() == before


def test_the_wrong_number_of_blocks_is_refused(observed: ObservedGraph) -> None:
    with pytest.raises(ConfigError, match="3 layers was given 1 blocks"):
        make("gcn")([observed.graph], observed.features)

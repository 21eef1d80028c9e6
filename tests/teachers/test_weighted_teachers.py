"""Teachers on weighted graphs against dense matrices: on whole graphs, in layers, on samples and by torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import WEIGHT, structure
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers.appnp import APPNP
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.gcn import GCN, GCNLayer
from dgl_rbm.teachers.inference import full_graph_output, layerwise_output, predict_nodes
from dgl_rbm.teachers.message_passing import aggregate, in_weights
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.sage import SAGE, SAGELayer
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement
from dgl_rbm.teachers.training import GNNTeacher

NODES, COLUMNS = 12, 4
CPU = torch.device("cpu")
ON_CPU = Placement(CPU, full_graph_fits=True, graph_on="cpu")
BY_TORCH = replace(ON_CPU, aggregation="torch")


def weighted_graph(equal: float | None = None, seed: int = 0) -> Any:
    """Return a directed graph with parallel edges, self-loops and a node without edges."""
    rng = np.random.default_rng(seed)
    source, destination = (torch.from_numpy(rng.integers(0, NODES - 1, 50)) for _ in range(2))
    weights = rng.choice([0.0, 0.25, 1.0, 3.0], 50) if equal is None else np.full(50, equal)
    return structure(dgl.graph((source, destination), num_nodes=NODES), weights.astype(np.float32))


def without_weights(graph: Any) -> Any:
    plain = graph.clone()
    del plain.edata[WEIGHT]
    return plain


def matrix(graph: Any) -> Tensor:
    pointers, sources, _ = graph.adj_tensors("csc")
    found = torch.zeros(NODES, NODES)
    for v in range(NODES):
        for edge in range(int(pointers[v]), int(pointers[v + 1])):
            found[v, sources[edge]] += graph.edata[WEIGHT][edge]
    return found


def mean_of(sums: Tensor) -> Tensor:
    total = sums.sum(dim=1, keepdim=True)
    return torch.where(total > 0, sums / total, 0.0)


def dense_gcn(sums: Tensor) -> Tensor:
    looped = sums + torch.diag((sums.diag() == 0).float())
    return looped.sum(dim=1)[:, None].rsqrt() * looped * looped.sum(dim=0)[None, :].rsqrt()


@pytest.mark.parametrize("make", [lambda graph: graph, CSCGraph.from_dgl])
def test_sums_and_means_and_their_gradients_are_weighted(make: Any) -> None:
    graph = weighted_graph()
    sums, made = matrix(graph), make(graph)
    torch.testing.assert_close(in_weights(made), sums.sum(dim=1))
    for reduction, dense in (("sum", sums), ("mean", mean_of(sums))):
        x, upstream = torch.randn(NODES, COLUMNS, requires_grad=True), torch.randn(NODES, COLUMNS)
        found = aggregate(made, x, reduction)  # type: ignore[arg-type]
        torch.testing.assert_close(found, dense @ x)
        (gradient,) = torch.autograd.grad(found, x, upstream)
        torch.testing.assert_close(gradient, dense.t() @ upstream)


def test_layers_equal_dense_products() -> None:
    graph, x = weighted_graph(), torch.randn(NODES, COLUMNS)
    sums = matrix(graph)
    layer = GCNLayer(COLUMNS, 3)
    torch.testing.assert_close(layer(graph, x), dense_gcn(sums) @ x @ layer.weight + layer.bias)
    for wide in (3, 9):
        own = SAGELayer(COLUMNS, wide, "mean")
        dense = own.conv.fc_self(x) + mean_of(sums) @ x @ own.conv.fc_neigh.weight.t()
        torch.testing.assert_close(own(graph, x), dense)
        joint = SAGELayer(COLUMNS, wide, "gcn")
        dense = mean_of(sums + torch.eye(NODES)) @ x @ joint.conv.fc_neigh.weight.t() + joint.conv.bias
        torch.testing.assert_close(joint(graph, x), dense)


def test_appnp_propagates_by_the_weighted_matrix() -> None:
    graph, x = weighted_graph(), torch.randn(NODES, COLUMNS)
    module = APPNP(COLUMNS, 3, hidden_dim=5, steps=3, alpha=0.2).eval()
    state = start = module.mlp(x)
    for _ in range(3):
        state = 0.8 * dense_gcn(matrix(graph)) @ state + 0.2 * start
    torch.testing.assert_close(module(graph, x), state)


MODULES = {
    "sage": lambda: SAGE(COLUMNS, 3, hidden_dim=5),
    "sage mean": lambda: SAGE(COLUMNS, 3, hidden_dim=5, aggregator="mean"),
    "sage pool": lambda: SAGE(COLUMNS, 3, hidden_dim=5, aggregator="pool"),
    "gcn": lambda: GCN(COLUMNS, 3, hidden_dim=5),
    "appnp": lambda: APPNP(COLUMNS, 3, hidden_dim=5, steps=2),
}


@pytest.mark.parametrize("name", MODULES)
def test_all_ways_of_inference_agree(name: str) -> None:
    graph, x, module = weighted_graph(), torch.randn(NODES, COLUMNS), MODULES[name]()
    view = GraphView(graph, x, torch.arange(NODES))
    expected = full_graph_output(module, graph, x, CPU).logits
    sampler = OrderedNeighborSampler([-1, -1], module.annotate)
    inputs, _, blocks = sampler.sample_blocks(graph, torch.arange(NODES))
    with torch.no_grad():
        answers = {
            "by torch": full_graph_output(module, graph, x, CPU, "torch").logits,
            "by layer": layerwise_output(module, graph, x, ON_CPU, nodes_at_once=5).logits,
            "by layer and torch": layerwise_output(module, graph, x, BY_TORCH, nodes_at_once=5).logits,
            "single nodes": predict_nodes(module, view, torch.arange(NODES))[0],
            "sampled": module(blocks, x[inputs]),
        }
    for way, logits in answers.items():
        torch.testing.assert_close(logits, expected, msg=lambda text, way=way: f"{way}: {text}")


@pytest.mark.parametrize("name", MODULES)
def test_weights_of_1_change_nothing_and_others_do(name: str) -> None:
    graph, x, module = weighted_graph(equal=1.0), torch.randn(NODES, COLUMNS), MODULES[name]()
    plain = full_graph_output(module, without_weights(graph), x, CPU).logits
    torch.testing.assert_close(full_graph_output(module, graph, x, CPU).logits, plain)
    graph.edata[WEIGHT] = torch.linspace(0.1, 5, graph.num_edges())
    changed = not torch.allclose(full_graph_output(module, graph, x, CPU).logits, plain)
    assert changed == (name != "sage pool"), "a maximum ignores weights"


def test_a_sampled_gcn_sum_is_unbiased() -> None:
    graph, x, layer = weighted_graph(), torch.rand(NODES, COLUMNS), GCNLayer(COLUMNS, 3)
    sampler = OrderedNeighborSampler([2], GCN.annotate)
    total, repeats = torch.zeros(NODES, 3), 1500
    with seeded(0, "sampling"), torch.no_grad():
        for _ in range(repeats):
            inputs, _, (block,) = sampler.sample_blocks(graph, torch.arange(NODES))
            total += layer(block, x[inputs])
        torch.testing.assert_close(total / repeats, layer(graph, x), atol=0.08, rtol=0.05)


class Reader(nn.Module):
    """A user's module that reads the weights itself."""

    num_layers, hidden_dim = 1, 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)
        self.seen: list[Tensor] = []

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        block = graph[0] if isinstance(graph, list) else graph
        self.seen.append(block.edata["weight"])
        return dgl.ops.u_mul_e_sum(block, self.linear(x), block.edata["weight"][:, None])


def test_a_users_module_finds_the_weights(observed: ObservedGraph) -> None:
    weights = np.linspace(0.1, 2, observed.graph.num_edges(), dtype=np.float32)
    weighted = replace(observed, graph=structure(observed.graph, weights))
    for training in ({"epochs": 2}, {"epochs": 2, "sampler": "neighbor", "fanouts": [3]}):
        module = Reader()
        teacher = GNNTeacher(module, 2, TeacherTraining(**training))
        context = RunContext()
        teacher.fit(weighted, context)
        logits = teacher.predict(weighted, context).logits
        assert len(module.seen) >= 3
        single = teacher.predict_nodes(weighted, torch.arange(len(weighted)))[0]
        torch.testing.assert_close(single, logits)

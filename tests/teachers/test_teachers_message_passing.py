"""Aggregation by torch against DGL's own operators: outputs and gradients, of functions, layers and whole trainings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl, sampling_thread
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.precision import mixed_precision
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers import csc
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.gcn import GCN, GCNLayer
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.inference import full_graph_output, layerwise_output, predict_nodes
from dgl_rbm.teachers.message_passing import aggregate
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.teachers.sage import SAGE, SAGELayer
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement, batches

BY_TORCH = Placement(torch.device("cpu"), full_graph_fits=True, graph_on="cpu", aggregation="torch")
REDUCTIONS = {"sum": dgl.ops.copy_u_sum, "mean": dgl.ops.copy_u_mean, "max": dgl.ops.copy_u_max}
reductions = pytest.mark.parametrize("reduction", list(REDUCTIONS))


@st.composite
def bipartite_edges(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Edges between S sources and D destinations: parallel ones, nodes without any, or none at all."""
    num_src, num_dst = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    edge = st.tuples(st.integers(0, num_src - 1), st.integers(0, num_dst - 1))
    edges = draw(st.lists(edge, max_size=20))
    return [u for u, _ in edges], [v for _, v in edges], num_src, num_dst


def tensors(*lists: list[int]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(values, dtype=torch.int64) for values in lists)


def distinct_values(count: int, columns: int, seed: int) -> Tensor:
    """Return rows in which no two values are the same, so that each maximum is one node's."""
    order = torch.randperm(count * columns, generator=torch.Generator().manual_seed(seed))
    return (order.float() / 7 - 3).view(count, columns)


@reductions
@given(edges=bipartite_edges(), seed=st.integers(0, 99))
def test_aggregation_equals_a_loop_over_edges(reduction: str, edges: Any, seed: int) -> None:
    source, destination, num_src, num_dst = edges
    x = distinct_values(num_src, 3, seed)
    graph = CSCGraph.from_edges(*tensors(source, destination), num_src, num_dst)
    expected = torch.zeros(num_dst, 3)
    for v in range(num_dst):
        near = [x[u] for u, w in zip(source, destination, strict=True) if w == v]
        if near:
            rows = torch.stack(near)
            expected[v] = {"sum": rows.sum(0), "mean": rows.mean(0), "max": rows.max(0).values}[reduction]
    torch.testing.assert_close(aggregate(graph, x, reduction), expected)
    assert graph.in_degrees().tolist() == [destination.count(v) for v in range(num_dst)]
    assert graph.out_degrees().tolist() == [source.count(u) for u in range(num_src)]
    assert graph.num_edges() == len(source)
    assert (graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_nodes()) == (num_src, num_dst, num_dst)


def output_and_gradient(graph: Any, x: Tensor, reduction: str, weights: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    found = aggregate(graph, x, reduction)
    (found * weights).sum().backward()
    return [found.detach(), x.grad]


@reductions
@pytest.mark.parametrize("messages_at_once", [csc._MESSAGES_AT_ONCE, 1])
@given(edges=bipartite_edges(), seed=st.integers(0, 99))
def test_aggregation_and_its_gradient_equal_dgls(reduction: str, messages_at_once: int, edges: Any, seed: int) -> None:
    source, destination, num_src, num_dst = edges
    # Column by column, as where the messages of all columns would be too many.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csc, "_MESSAGES_AT_ONCE", messages_at_once)
        block = dgl.create_block(tensors(source, destination), num_src_nodes=num_src, num_dst_nodes=num_dst)
        x, weights = distinct_values(num_src, 3, seed), distinct_values(num_dst, 3, seed + 1)
        expected = output_and_gradient(block, x, reduction, weights)
        found = output_and_gradient(CSCGraph.from_dgl(block), x, reduction, weights)
        torch.testing.assert_close(found, expected)
        # And DGL's side of `aggregate` is DGL's operator.
        theirs = REDUCTIONS[reduction](block, x)
        torch.testing.assert_close(expected[0], theirs.masked_fill(theirs == -math.inf, 0.0))


def test_equal_maxima_share_their_gradient() -> None:
    graph = CSCGraph.from_edges(*tensors([0, 1, 2, 2], [0, 0, 0, 0]), 3, 1)
    x = torch.tensor([[1.0], [4.0], [4.0]], requires_grad=True)
    aggregate(graph, x, "max").sum().backward()
    assert x.grad.squeeze(1).tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("formats", [["coo", "csr", "csc"], "coo", "csr", "csc"])
def test_any_stored_format_of_a_graph_is_read(formats: Any) -> None:
    graph = dgl.graph(tensors([3, 0, 1, 1], [2, 2, 0, 0]), num_nodes=5).formats(formats)
    made = CSCGraph.from_dgl(graph)
    assert made.indptr.tolist() == [0, 1, 1, 3, 3, 3]
    assert made.indices.tolist() == [1, 0, 3]
    assert made.counts.tolist() == [2, 1, 1]
    assert graph.formats()["created"] == ([formats] if isinstance(formats, str) else ["coo"])


def test_what_is_written_to_nodes_goes_with_the_edges() -> None:
    graph = dgl.graph(tensors([0, 1], [1, 1]), num_nodes=3)
    made = CSCGraph.from_dgl(graph, annotate=GCN.annotate)
    assert not graph.ndata
    local = graph.local_var()
    GCN.annotate(graph, local)
    assert set(made.srcdata) == set(local.srcdata)
    assert all(torch.equal(made.dstdata[name], column) for name, column in local.dstdata.items())
    moved = made.to("meta")
    parts = [moved.indptr, moved.indices, moved.counts, *moved.srcdata.values(), *moved.dstdata.values()]
    assert {part.device.type for part in parts} == {"meta"}
    assert made.to("cpu") is made


def layers() -> Iterator[Any]:
    """Yield ways to make a layer."""
    # A wider and a narrower output take the two orders of projecting and aggregating.
    for out_dim in (3, 9):
        for aggregator in ("gcn", "mean", "pool"):
            yield pytest.param(lambda a=aggregator, o=out_dim: SAGELayer(6, o, a), id=f"sage-{aggregator}-{out_dim}")
        yield pytest.param(lambda o=out_dim: GCNLayer(6, o), id=f"gcn-{out_dim}")


@st.composite
def multigraphs(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 8))
    node = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=24))
    return dgl.graph(tensors([u for u, _ in edges], [v for _, v in edges]), num_nodes=count)


def run(layer: nn.Module, graph: Any, x: Tensor | SparseRows, weights: Tensor) -> list[Tensor]:
    """Return the output, the gradients of the parameters, and that of dense inputs."""
    layer.zero_grad()
    if isinstance(x, Tensor):
        x = x.clone().requires_grad_()
    found = layer(graph, x)
    (found * weights).sum().backward()
    of_inputs = [x.grad] if isinstance(x, Tensor) else []
    return [found.detach(), *[parameter.grad.clone() for parameter in layer.parameters()], *of_inputs]


def sparse(dense: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(dense.numpy()))


@pytest.mark.parametrize("make", list(layers()))
@given(graph=multigraphs(), seed=st.integers(0, 99), sampled=st.booleans())
def test_layers_give_on_torchs_graphs_what_they_give_on_dgls(make: Any, graph: Any, seed: int, sampled: bool) -> None:
    torch.manual_seed(seed)
    layer, x = make(), distinct_values(graph.num_nodes(), 6, seed)
    nn.init.normal_(list(layer.parameters())[-1])
    if sampled:
        dgl.seed(seed)
        seeds = torch.randperm(graph.num_nodes())[:3]
        inputs, _, (graph,) = OrderedNeighborSampler([2], GCN.annotate).sample_blocks(graph, seeds)
        x = x[inputs]
    else:
        graph = graph.local_var()
        GCN.annotate(graph, graph)
    weights = torch.randn(graph.num_dst_nodes(), layer(graph, x).shape[1])
    for rows in (x, sparse(x)):
        expected = run(layer, graph, rows, weights)
        torch.testing.assert_close(run(layer, CSCGraph.from_dgl(graph), rows, weights), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("aggregator", ["gcn", "mean", "pool"])
@pytest.mark.parametrize("out_dim", [3, 9])
@given(graph=multigraphs(), seed=st.integers(0, 99), as_block=st.booleans())
def test_sage_layer_is_dgls_own_to_the_bit(
    aggregator: str, out_dim: int, graph: Any, seed: int, as_block: bool
) -> None:
    torch.manual_seed(seed)
    layer, x = SAGELayer(6, out_dim, aggregator), torch.randn(graph.num_nodes(), 6)
    if as_block:
        nodes = torch.arange(graph.num_nodes() // 2 + 1)
        inputs, _, (graph,) = OrderedNeighborSampler([-1]).sample_blocks(graph, nodes)
        x = x[inputs]
    weights = torch.randn(graph.num_dst_nodes(), out_dim)
    found, theirs = (run(way, graph, x, weights) for way in (layer, layer.conv))
    assert torch.equal(found[0], theirs[0])
    # DGL gives the gradient of a maximum over no neighbours to the first node.
    if aggregator != "pool" or graph.in_degrees().all():
        assert all(torch.equal(mine, other) for mine, other in zip(found, theirs, strict=True))


def test_a_maximum_over_no_neighbours_has_no_gradient() -> None:
    graph, x = dgl.graph(tensors([1], [1]), num_nodes=3), torch.ones(3, 2)
    for way in (graph, CSCGraph.from_dgl(graph)):
        _, gradient = output_and_gradient(way, x, "max", torch.ones(3, 2))
        assert gradient.tolist() == [[0, 0], [1, 1], [0, 0]]


MODULES = {
    "sage-gcn": lambda: SAGE(6, 2, hidden_dim=5, aggregator="gcn", norm="batch"),
    "sage-mean": lambda: SAGE(6, 2, hidden_dim=9, aggregator="mean"),
    "sage-pool": lambda: SAGE(6, 2, hidden_dim=5, aggregator="pool", norm="layer"),
    "gcn": lambda: GCN(6, 2, hidden_dim=9),
}
modules = pytest.mark.parametrize("name", list(MODULES))


@modules
def test_every_way_to_predict_gives_the_same(name: str, observed: ObservedGraph) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    for view in (observed, dataclasses.replace(observed, features=sparse(observed.features))):
        expected = full_graph_output(module, view.graph, view.features, BY_TORCH.device)
        for found in (
            full_graph_output(module, view.graph, view.features, BY_TORCH.device, "torch"),
            layerwise_output(module, view.graph, view.features, BY_TORCH, nodes_at_once=25),
        ):
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.hidden, expected.hidden, atol=1e-5, rtol=1e-5)
        ids = torch.tensor([4, 59, 4])
        logits, fetched = predict_nodes(module, view, ids, "torch")
        torch.testing.assert_close(logits, expected.logits[ids], atol=1e-5, rtol=1e-5)
        assert fetched == predict_nodes(module, view, ids)[1]
    assert not observed.graph.ndata


def test_batches_come_as_torchs_graphs_with_what_was_annotated(observed: ObservedGraph) -> None:
    def draw(placement: Placement) -> list[Any]:
        sampling_thread.seed(3)
        sampler = OrderedNeighborSampler([3, 2], GCN.annotate)
        return list(batches(observed.graph, torch.arange(40), sampler, placement, batch_size=15))

    by_dgl = dataclasses.replace(BY_TORCH, aggregation="dgl")
    for (inputs, outputs, parts), (*expected, blocks) in zip(draw(BY_TORCH), draw(by_dgl), strict=True):
        assert torch.equal(inputs, expected[0])
        assert torch.equal(outputs, expected[1])
        for part, block in zip(parts, blocks, strict=True):
            assert isinstance(part, CSCGraph)
            assert torch.equal(part.in_degrees(), block.in_degrees())
            names = set(block.srcdata) - {dgl.NID}
            assert names
            assert all(torch.equal(part.srcdata[name], block.srcdata[name]) for name in names)


FULL = {"sampler": "full", "epochs": 12}
SAMPLED = {"sampler": "neighbor", "fanouts": [4, 4], "batch_size": 6, "epochs": 4}


@modules
@pytest.mark.parametrize("training", [FULL, SAMPLED], ids=["full", "neighbor"])
def test_training_by_torch_is_training_by_dgl(
    name: str, training: dict[str, Any], observed: ObservedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = []
    for aggregation in ("dgl", "torch", "torch"):
        placement = dataclasses.replace(BY_TORCH, aggregation=aggregation)
        monkeypatch.setattr("dgl_rbm.teachers.training.place", lambda *given, chosen=placement: chosen)
        with seeded(0, "start"):
            kind, _, aggregator = name.partition("-")
            options = {"aggregator": aggregator} if aggregator else {}
            teacher = as_teacher({"kind": kind, "hidden_dim": 8, "training": training, **options}, 6, 2)
        context = RunContext()
        teacher.fit(observed, context)
        curve = [entry["val_loss"] for entry in context.history]
        curves.append([*curve, *teacher.predict(observed, context).logits.flatten().tolist()])
        assert teacher.aggregation == aggregation
        assert teacher.predict_nodes(observed, torch.tensor([7]))[0].shape == (1, 2)
    assert curves[1] == pytest.approx(curves[0], rel=1e-2, abs=1e-2)
    assert curves[1] == curves[2]


@modules
@pytest.mark.parametrize("as_sparse", [False, True])
def test_no_tensor_is_made_on_another_device_than_the_graphs(
    name: str, as_sparse: bool, observed: ObservedGraph
) -> None:
    """With another device as the default, whatever is made without naming one cannot meet the graph's tensors."""
    module = MODULES[name]()
    graph = CSCGraph.from_dgl(observed.graph, annotate=module.annotate)
    x = sparse(observed.features) if as_sparse else observed.features
    # The transpose of sparse features is kept from here on.
    expected = module.eval()(graph, x)
    expected.sum().backward()
    with torch.device("meta"):
        ends = observed.graph.edges()
        again = CSCGraph.from_edges(*ends, len(observed), len(observed))
        again.srcdata, again.dstdata = graph.srcdata, graph.dstdata
        logits = module(again, x)
        logits.sum().backward()
        again.out_degrees()
    assert torch.equal(logits, expected)
    assert {parameter.grad.device.type for parameter in module.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["sage-gcn", "sage-mean", "gcn"])
def test_a_backward_pass_under_autocast_works_too(name: str, observed: ObservedGraph) -> None:
    module = MODULES[name]().eval()
    graph = CSCGraph.from_dgl(observed.graph, annotate=module.annotate)
    with mixed_precision("bf16", torch.device("cpu")):
        module(graph, observed.features).sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())


def test_modules_say_whether_they_run_without_dgls_kernels() -> None:
    assert SAGE(6, 2).reads_csc
    assert GCN(6, 2).reads_csc
    assert not LayeredGNN([dgl.nn.SAGEConv(6, 2, "mean")], hidden_dim=2).reads_csc


def test_precision_is_refused_where_dgls_layers_may_be_used(observed: ObservedGraph) -> None:
    teacher = as_teacher(LayeredGNN([dgl.nn.SAGEConv(6, 2, "mean")], hidden_dim=2), 6, 2)
    teacher.training = teacher.training.model_copy(update={"precision": "bf16"})
    with pytest.raises(ConfigError, match=r"teacher\.training\.precision is 'bf16', but LayeredGNN") as caught:
        teacher.fit(observed, RunContext())
    assert "reads_csc" in caught.value.hint


@pytest.mark.parametrize("aggregation", ["dgl", "torch"])
@pytest.mark.parametrize("kind", ["sage", "gcn"])
@pytest.mark.parametrize("training", [FULL, SAMPLED], ids=["full", "neighbor"])
def test_teachers_learn_in_bf16_and_stay_float32(
    kind: str, aggregation: str, training: dict[str, Any], observed: ObservedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = dataclasses.replace(BY_TORCH, aggregation=aggregation)
    monkeypatch.setattr("dgl_rbm.teachers.training.place", lambda *given: placement)
    losses = {}
    for precision in ("float32", "bf16"):
        with seeded(0, "start"):
            options = training | {"precision": precision, "epochs": 20}
            teacher = as_teacher({"kind": kind, "hidden_dim": 8, "training": options}, 6, 2)
        context = RunContext()
        teacher.fit(observed, context)
        losses[precision] = [entry["loss"] for entry in context.history]
        output = teacher.predict(observed, context, return_hidden=True)
        assert {value.dtype for value in teacher.state_dict().values()} == {torch.float32}
        assert {output.logits.dtype, output.hidden.dtype} == {torch.float32}
        predicted = output.logits.argmax(dim=1)
        assert (predicted == (torch.arange(60) >= 30).long())[observed.val_idx].float().mean() > 0.9
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.1, abs=0.02)

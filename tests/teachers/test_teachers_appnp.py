"""APPNP against dense matrices, and the different ways to run it against each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers import appnp
from dgl_rbm.teachers.appnp import APPNP, AppnpTeacher
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.inference import full_graph_output, layerwise_output, predict_nodes
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.teachers.sampling import Placement

CPU = Placement(torch.device("cpu"), full_graph_fits=True, graph_on="cpu")


def make(**options: Any) -> APPNP:
    torch.manual_seed(3)
    return APPNP(6, 3, **({"hidden_dim": 5, "steps": 4, "alpha": 0.2} | options)).eval()


def build(**options: Any) -> AppnpTeacher:
    spec = {"kind": "appnp", "hidden_dim": 8, "steps": 3, "training": {"epochs": 25}} | options
    with seeded(0, "start"):
        teacher = as_teacher(spec, 6, 2)
    assert isinstance(teacher, AppnpTeacher)
    return teacher


def sparse(dense: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(dense.numpy()))


def reference(module: APPNP, graph: Any, x: Tensor) -> Tensor:
    """Return the logits by dense matrices in float64, as the paper writes them."""
    count = graph.num_nodes()
    adjacency = torch.zeros(count, count, dtype=torch.float64)
    for source, destination in zip(*(part.tolist() for part in graph.edges()), strict=True):
        adjacency[destination, source] += 1
    for node in range(count):
        if not adjacency[node, node]:
            adjacency[node, node] = 1
    into, out_of = adjacency.sum(dim=1), adjacency.sum(dim=0)
    normalized = adjacency / (into[:, None] * out_of[None, :]).sqrt()
    h = x.double()
    for depth, layer in enumerate(module.mlp.layers):
        h = h @ layer.weight.double().T + layer.bias.double()
        h = h.relu() if depth + 1 < len(module.mlp.layers) else h
    z, alpha = h, module.layers[0].alpha
    for _ in module.layers:
        z = (1 - alpha) * normalized @ z + alpha * h
    return z


@st.composite
def small_graphs(draw: st.DrawFn) -> Any:
    """Directed graphs with self-loops, repeated edges, isolated nodes, or no edges at all."""
    count = draw(st.integers(1, 6))
    node = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=14))
    ends = [torch.tensor([edge[i] for edge in edges], dtype=torch.int64) for i in (0, 1)]
    return dgl.graph(tuple(ends), num_nodes=count)


@given(graph=small_graphs(), seed=st.integers(0, 99), steps=st.integers(1, 4), depth=st.integers(1, 3))
def test_the_whole_model_equals_dense_matrices(graph: Any, seed: int, steps: int, depth: int) -> None:
    torch.manual_seed(seed)
    module, x = make(steps=steps, num_layers=depth), torch.randn(graph.num_nodes(), 6)
    expected = reference(module, graph, x).float()
    torch.testing.assert_close(module(graph, x), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(module(graph, sparse(x)), expected, atol=1e-5, rtol=1e-4)
    csc = CSCGraph.from_dgl(graph, annotate=module.annotate)
    torch.testing.assert_close(module(csc, x), expected, atol=1e-5, rtol=1e-4)


def test_many_steps_reach_personalised_pagerank(observed: ObservedGraph) -> None:
    module = make(steps=200)
    adjacency = torch.eye(60, dtype=torch.float64)
    source, destination = observed.graph.edges()
    adjacency[destination, source] = 1
    degrees = adjacency.sum(dim=1)
    normalized = adjacency / (degrees[:, None] * degrees[None, :]).sqrt()
    scores = module.mlp(observed.features).double()
    limit = 0.2 * torch.linalg.inv(torch.eye(60, dtype=torch.float64) - 0.8 * normalized) @ scores
    torch.testing.assert_close(module(observed.graph, observed.features).double(), limit, atol=1e-5, rtol=1e-4)


def test_sparse_features_give_the_dense_gradients(observed: ObservedGraph) -> None:
    module, target, results = make(), torch.randn(60, 3), []
    for x in (observed.features, sparse(observed.features)):
        module.zero_grad()
        (module(observed.graph, x) * target).sum().backward()
        results.append([parameter.grad.clone() for parameter in module.parameters()])
    torch.testing.assert_close(results[0], results[1])
    assert all(gradient.abs().sum() > 0 for gradient in results[0])


def test_dropout_of_sparse_features_drops_and_scales_entries() -> None:
    mlp = make(dropout=0.5).mlp.train()
    x = sparse(torch.ones(400, 6))
    dropped = mlp._dropped(x).to_dense()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6
    assert torch.equal(x.to_dense(), torch.ones(400, 6))
    assert mlp.eval()._dropped(x) is x


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_layerwise_inference_equals_the_full_forward(norm: str, observed: ObservedGraph) -> None:
    module = make(norm=norm)
    module.train()(observed.graph, observed.features)  # moves the running statistics of batch norm
    whole = full_graph_output(module, observed.graph, observed.features, CPU.device)
    for features, nodes_at_once in ((observed.features, 1000), (sparse(observed.features), 25)):
        parts = layerwise_output(module, observed.graph, features, CPU, nodes_at_once=nodes_at_once)
        torch.testing.assert_close(parts.logits, whole.logits, atol=1e-5, rtol=0)


def test_predict_nodes_reads_the_neighbourhood_and_no_more(observed: ObservedGraph) -> None:
    module = make(steps=2)
    expected = module(observed.graph, observed.features)
    source, destination = (part.tolist() for part in observed.graph.edges())
    for node in (0, 33, 59):
        reached = {node}
        for _ in range(2):
            reached |= {u for u, v in zip(source, destination, strict=True) if v in reached}
        logits, fetched = predict_nodes(module, observed, torch.tensor([node]))
        torch.testing.assert_close(logits, expected[[node]])
        assert fetched == len(reached)


@pytest.mark.parametrize("aggregation", ["dgl", "torch"])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_prediction_in_parts_equals_prediction_at_once(
    aggregation: Any, as_sparse: bool, observed: ObservedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = build(num_layers=3)
    view = dataclasses.replace(observed, features=sparse(observed.features)) if as_sparse else observed
    whole = teacher.predict(view, RunContext())
    short = Placement(torch.device("cpu"), full_graph_fits=False, graph_on="cpu", aggregation=aggregation)
    monkeypatch.setattr("dgl_rbm.teachers.training.place", lambda *given: short)
    monkeypatch.setattr(appnp, "_ROWS_AT_ONCE", 7)
    parts = teacher.predict(view, RunContext())
    torch.testing.assert_close(parts.logits, whole.logits)
    assert whole.hidden is parts.hidden is None
    assert not observed.graph.ndata


def test_hidden_states_give_the_logits_where_there_is_no_bias(observed: ObservedGraph) -> None:
    teacher = build()
    last = teacher.module.mlp.layers[-1]
    torch.nn.init.zeros_(last.bias)
    output = teacher.predict(observed, RunContext(), return_hidden=True)
    assert output.hidden.shape == (60, 8)
    torch.testing.assert_close(output.hidden @ last.weight.detach().T, output.logits)
    assert build(num_layers=1).predict(observed, RunContext(), return_hidden=True).hidden is None


def test_it_learns_and_tells_students_the_networks_size(observed: ObservedGraph) -> None:
    teacher, context = build(training={"epochs": 60}), RunContext()
    teacher.fit(observed, context)
    # The last two nodes have no edges, and features alone say little.
    right = teacher.predict(observed, context).logits.argmax(dim=1) == (torch.arange(60) >= 30).long()
    assert right[observed.val_idx].float().mean() > 0.9
    assert (teacher.kind, teacher.hidden_dim, teacher.num_layers) == ("appnp", 8, 2)
    assert teacher.predicts_single_nodes
    assert teacher.num_parameters() == 6 * 8 + 8 + 8 * 2 + 2
    shifted = teacher.predict(observed, context, features=observed.features + 1).logits
    assert not torch.equal(shifted, teacher.predict(observed, context).logits)


class StopAt(Callback):
    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if done == 5:
            raise KeyboardInterrupt


def test_an_interrupted_run_resumes_to_the_same_bits(observed: ObservedGraph, tmp_path: Path) -> None:
    view = dataclasses.replace(observed, features=sparse(observed.features))
    whole, context = build(), RunContext()
    whole.fit(view, context)
    store = CheckpointStore(tmp_path, "same")
    with pytest.raises(KeyboardInterrupt):
        build().fit(view, RunContext(checkpoints=store, callbacks=[StopAt()]))
    resumed, second = build(), RunContext(checkpoints=store)
    resumed.fit(view, second)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert second.history == context.history


@pytest.mark.parametrize("training", [{"sampler": "neighbor"}, {"fanouts": [5, 5]}])
def test_sampling_is_refused_with_a_way_out(training: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"training.*full graph only.*'sage', which samples"):
        teachers.resolve({"kind": "appnp", "training": training})


def test_the_full_graph_is_taken_where_it_is_estimated_not_to_fit() -> None:
    short = Placement(torch.device("cpu"), full_graph_fits=False, graph_on="cpu")
    assert build().fanouts(short) is None


def test_every_option_is_described() -> None:
    fields = teachers.config_class("appnp").model_fields
    assert [name for name, field in fields.items() if not field.description] == []

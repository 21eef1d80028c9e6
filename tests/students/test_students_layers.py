"""Routing, memory, experts and k-means against slow loops over rows and experts."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.objectives import commitment_loss, load_balance_loss, self_similarity_loss
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.kmeans import kmeans_centres, subsample
from dgl_rbm.students.layers.memory import ExpertMemory, annealed_momentum
from dgl_rbm.students.layers.mixture import MixtureLayer
from dgl_rbm.students.layers.routing import LearnedRouter, MemoryRouter, top_k_gates


def rows(count: int, dim: int, seed: int = 0) -> Tensor:
    """Return normally distributed rows with a quarter of zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator)
    return x * (torch.rand(count, dim, generator=generator) > 0.25)


def sparse(x: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(x.detach().numpy()))


def reference_cosine(a: list[float], b: list[float]) -> float:
    product = sum(p * q for p, q in zip(a, b, strict=True))
    lengths = math.sqrt(sum(p * p for p in a)) * math.sqrt(sum(q * q for q in b))
    return product / lengths if lengths else 0.0


def reference_gates(cosines: list[float], k: int) -> list[float]:
    kept = sorted(range(len(cosines)), key=lambda e: (-cosines[e], e))[:k]
    total = sum(math.exp(cosines[e]) for e in kept)
    return [math.exp(c) / total if e in kept else 0.0 for e, c in enumerate(cosines)]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_memory_router_is_equation_3(k: int) -> None:
    x = rows(7, 4)
    router = MemoryRouter(4, 5, k)
    routing = router(x)
    for h, cosines, gates in zip(x.tolist(), routing.scores.tolist(), routing.gates.tolist(), strict=True):
        expected = [reference_cosine(h, q) for q in router.memory.vectors.tolist()]
        assert cosines == pytest.approx(expected, abs=1e-6)
        assert gates == pytest.approx(reference_gates(expected, k), abs=1e-6)


def test_learned_router_is_equation_2_and_is_trained() -> None:
    x = rows(6, 4)
    router = LearnedRouter(4, 5, 2, embedding_dim=3)
    routing = router(x)
    weight = router.projection.weight.tolist()
    for h, gates in zip(x.tolist(), routing.gates.tolist(), strict=True):
        projected = [sum(w * v for w, v in zip(line, h, strict=True)) for line in weight]
        cosines = [reference_cosine(projected, q) for q in router.embeddings.tolist()]
        assert gates == pytest.approx(reference_gates(cosines, 2), abs=1e-5)
    (routing.gates**2).sum().backward()
    assert router.projection.weight.grad.abs().sum() > 0
    assert router.embeddings.grad.abs().sum() > 0


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 6), st.data())
def test_gates_sum_to_one_over_k_experts(seed: int, count: int, num_experts: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, num_experts))
    # Few distinct values, for ties.
    scores = torch.randint(0, 3, (count, num_experts), generator=torch.Generator().manual_seed(seed)) / 2.0
    gates = top_k_gates(scores, k)
    assert torch.equal((gates > 0).sum(1), torch.full((count,), k))
    torch.testing.assert_close(gates.sum(1), torch.ones(count))
    for line, expected in zip(gates.tolist(), scores.tolist(), strict=True):
        assert line == pytest.approx(reference_gates(expected, k), abs=1e-6)


def test_memory_router_passes_gradients_to_rows_only() -> None:
    x = rows(5, 4).requires_grad_()
    router = MemoryRouter(4, 3, 2)
    routing = router(x)
    commitment_loss(routing.scores, routing.gates).backward()
    assert x.grad.abs().sum() > 0
    assert router.memory.vectors.grad is None


def test_commitment_and_load_balance_of_a_routing_are_equations_6_and_8() -> None:
    x = rows(6, 4)
    router = MemoryRouter(4, 3, 2)
    routing = router(x)
    total, load = 0.0, [0.0] * 3
    for h in x.tolist():
        cosines = [reference_cosine(h, q) for q in router.memory.vectors.tolist()]
        for e, gate in enumerate(reference_gates(cosines, 2)):
            total -= gate * cosines[e]
            load[e] += gate
    mean = sum(load) / 3
    variance = sum((value - mean) ** 2 for value in load) / 3
    assert commitment_loss(*routing).item() == pytest.approx(total / 6, abs=1e-6)
    assert load_balance_loss(routing.gates).item() == pytest.approx(variance / mean**2, abs=1e-6)


def test_self_similarity_pushes_memories_apart() -> None:
    memory = ExpertMemory(4, 3)
    before = self_similarity_loss(memory.vectors)
    expected = [[reference_cosine(a, b) for b in memory.vectors.tolist()] for a in memory.vectors.tolist()]
    assert before.item() == pytest.approx(sum(map(sum, expected)) / 16, abs=1e-6)
    before.backward()
    with torch.no_grad():
        memory.vectors -= memory.vectors.grad
    assert self_similarity_loss(memory.vectors) < before


def test_zero_rows_are_routed_with_bounded_gradients() -> None:
    x = torch.zeros(3, 4, requires_grad=True)
    for router in (MemoryRouter(4, 3, 2), LearnedRouter(4, 3, 2, embedding_dim=2)):
        routing = router(x)
        assert torch.equal(routing.gates, torch.tensor([0.5, 0.5, 0.0]).expand(3, 3))
        (gradient,) = torch.autograd.grad(routing.scores.sum(), x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 100


def reference_update(memory: Tensor, x: Tensor, gates: Tensor, momentum: float) -> list[list[float]]:
    def unit(vector: list[float]) -> list[float]:
        length = math.sqrt(sum(v * v for v in vector))
        return [v / length for v in vector] if length else vector

    moved = []
    for e, q in enumerate(memory.tolist()):
        routed = [(h, g[e]) for h, g in zip(x.tolist(), gates.tolist(), strict=True) if g[e] != 0]
        if not routed:
            moved.append(q)
            continue
        total = sum(math.exp(g) for _, g in routed)
        centre = [0.0] * len(q)
        for h, g in routed:
            centre = [c + math.exp(g) / total * v for c, v in zip(centre, unit(h), strict=True)]
        pairs = zip(unit(q), centre, strict=True)
        moved.append(unit([momentum * old + (1 - momentum) * new for old, new in pairs]))
    return moved


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_memory_update_is_equation_4(momentum: float) -> None:
    x = rows(9, 4)
    x[3] = 0
    memory = ExpertMemory(5, 4)
    with torch.no_grad():
        memory.vectors *= torch.tensor([[1.0], [3.0], [0.2], [1.0], [2.0]])
    gates = top_k_gates(rows(9, 5, seed=1), 2)
    gates[:, 4] = 0
    expected = reference_update(memory.vectors, x, gates, momentum)
    unused = memory.vectors[4].clone()
    memory.update(x, gates, momentum)
    for vector, line in zip(memory.vectors.tolist(), expected, strict=True):
        assert vector == pytest.approx(line, abs=1e-6)
    assert torch.equal(memory.vectors[4], unused)


def test_memory_update_without_rows_changes_nothing() -> None:
    memory = ExpertMemory(3, 4)
    before = memory.vectors.clone()
    memory.update(torch.empty(0, 4), torch.empty(0, 3), 0.5)
    assert torch.equal(memory.vectors, before)


def test_momentum_is_equation_14_with_a_minimum() -> None:
    assert annealed_momentum(0, 0.9, 0.05, 200) == 0.9
    assert annealed_momentum(100, 0.9, 0.05, 200) == pytest.approx(0.9025)
    assert annealed_momentum(200, 0.9, 0.05, 200) == pytest.approx(0.905)
    assert annealed_momentum(10_000, 0.9, 0.5, 200) == 1.0


def make_experts(attention: bool = True, scale: bool = True) -> PackedExperts:
    experts = PackedExperts(4, 5, 3, input_attention=attention, output_scale=scale)
    if experts.attention is not None:
        torch.nn.init.normal_(experts.attention)
    return experts


def reference_mixture(experts: PackedExperts, x: Tensor, gates: Tensor) -> Tensor:
    out = []
    for h, gate in zip(x, gates, strict=True):
        total = torch.zeros(3)
        for e in range(4):
            seen = h if experts.attention is None else experts.attention[e].exp() * h
            total = total + gate[e] * (seen @ experts.weights[e] + experts.bias[e])
        out.append(total if experts.scale is None else experts.scale.exp() * total)
    return torch.stack(out)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_experts_and_their_gradients_are_equation_5(attention: bool, scale: bool, count: int) -> None:
    experts = make_experts(attention, scale)
    x = rows(count, 5).requires_grad_()
    gates = top_k_gates(rows(count, 4, seed=1), 2).requires_grad_()
    weights = rows(count, 3, seed=2)
    wanted = [x, gates, *experts.parameters()]
    expected = reference_mixture(experts, x, gates)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), wanted)
    actual = experts(x, gates)
    gradients = torch.autograd.grad((actual * weights).sum(), wanted)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    used = gates != 0
    for value, reference in zip(gradients, expected_gradients, strict=True):
        if reference is expected_gradients[1]:
            # In the formula a gate of zero has a gradient, but its expert is not computed.
            value, reference = value[used], reference[used]
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4)


def test_unused_experts_get_no_gradient() -> None:
    experts = make_experts()
    gates = torch.tensor([[0.5, 0, 0.5, 0], [0.3, 0, 0.7, 0]])
    experts(rows(2, 5), gates).sum().backward()
    for packed in (experts.weights, experts.bias, experts.attention):
        assert not packed.grad[[1, 3]].any()
        assert packed.grad[[0, 2]].any()


def test_attention_and_scale_are_initialised_as_published_and_capped() -> None:
    experts = PackedExperts(2, 3, 3, input_attention=True, output_scale=True)
    torch.testing.assert_close(experts.attention.exp(), torch.full((2, 3), 1.1))
    assert experts.scale.exp().item() == pytest.approx(2.0)
    gates = torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        experts.bias.zero_()
        experts.attention.fill_(50.0)
        experts.scale.fill_(50.0)
        x = torch.ones(1, 3)
        expected = 100.0 * (100.0 * x) @ experts.weights[0]
        torch.testing.assert_close(experts(x, gates), expected, rtol=1e-4, atol=1e-3)
    experts.cap()
    # At the cap the gradient is nonzero again.
    experts(torch.ones(1, 3), gates).sum().backward()
    assert experts.attention.grad[0].all()
    assert experts.scale.grad != 0


def make_layer(memory: bool = True, dropout: float = 0.0) -> MixtureLayer:
    router = MemoryRouter(5, 4, 2) if memory else LearnedRouter(5, 4, 2, embedding_dim=3)
    return MixtureLayer(router, make_experts(), dropout=dropout, stop_gate_gradient=memory)


@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 12))
def test_layers_are_equivariant_to_the_order_of_rows(seed: int, memory: bool, count: int) -> None:
    torch.manual_seed(seed)
    layer, x = make_layer(memory), torch.randn(count, 5)
    order = torch.randperm(count)
    output, routing = layer(x)
    shuffled, shuffled_routing = layer(x[order])
    torch.testing.assert_close(shuffled, output[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled_routing.gates, routing.gates[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", [True, False])
def test_sparse_and_dense_rows_give_equal_outputs(memory: bool) -> None:
    layer, x = make_layer(memory), rows(30, 5)
    x[4] = 0
    results = []
    for values in (x, sparse(x)):
        layer.zero_grad()
        output, routing = layer(values)
        (output.square().mean() + load_balance_loss(routing.gates)).backward()
        gradients = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        moved = ExpertMemory(4, 5)
        moved.load_state_dict({"vectors": torch.eye(4, 5)})
        moved.update(values, routing.gates, 0.5)
        results.append([output, *routing, *gradients, moved.vectors])
    assert len(results[0]) > 7
    for dense_value, sparse_value in zip(*results, strict=True):
        torch.testing.assert_close(sparse_value, dense_value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", [True, False])
def test_the_mix_passes_a_gradient_to_gates_unless_it_is_stopped(memory: bool) -> None:
    layer, x = make_layer(memory), rows(6, 5).requires_grad_()
    gates = layer(x)[1].gates.detach()
    (actual,) = torch.autograd.grad(layer(x)[0].sum(), x)
    (with_constant_gates,) = torch.autograd.grad(layer.experts(x, gates).sum(), x)
    assert torch.allclose(actual, with_constant_gates, atol=1e-5) is memory


def test_dropout_applies_to_experts_and_not_to_routers() -> None:
    layer, x = make_layer(dropout=0.5).train(), torch.ones(50, 5)
    first, second = layer(x), layer(x)
    assert torch.equal(first[1].gates, second[1].gates)
    assert not torch.equal(first[0], second[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_kmeans_finds_separated_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    which = torch.arange(60) % 3
    x = (torch.eye(3, 6)[which] + 0.05 * torch.randn(60, 6, generator=generator)) * torch.rand(60, 1)
    x = torch.cat([x, torch.zeros(5, 6)])
    for values in (x, sparse(x)):
        centres = torch.nn.functional.normalize(kmeans_centres(values, 3))
        nearest = (centres @ torch.eye(3, 6).t()).max(dim=0)
        assert sorted(nearest.indices.tolist()) == [0, 1, 2]
        assert (nearest.values > 0.99).all()


def test_kmeans_is_reproducible_from_torchs_generator() -> None:
    x = rows(200, 8)
    results = []
    for seed in (1, 1):
        torch.manual_seed(seed)
        results.append(kmeans_centres(x, 4))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    "x", [torch.ones(9, 4), torch.ones(2, 4), torch.zeros(5, 4), torch.eye(4)[[0, 1] * 4]], ids=str
)
def test_kmeans_of_few_distinct_rows_gives_distinct_centres_without_warnings(x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in (x, sparse(x)):
            centres = kmeans_centres(values, 4)
            assert centres.shape == (4, 4)
            assert torch.isfinite(centres).all()
            assert len(np.unique(centres.numpy(), axis=0)) == 4
            assert (centres.norm(dim=1) > 0).all()


def test_subsample_draws_rows_of_large_inputs_only() -> None:
    x = torch.arange(20.0).unsqueeze(1)
    assert subsample(x) is x
    part = subsample(x, limit=7).squeeze(1)
    assert len(part.unique()) == 7
    assert torch.equal(part, part.sort().values)

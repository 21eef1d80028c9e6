"""Spectral vectors against dense decompositions of matrices built entry by entry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.encoders.spectral import SpectralEncoder, orthonormal, positive_pmi, symmetric_factor
from dgl_rbm.runtime.context import RunContext

NODES = 8
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=25)


def random_edges(nodes: int, count: int, seed: int) -> list[tuple[int, int]]:
    generator = np.random.default_rng(seed)
    return [tuple(pair) for pair in generator.integers(nodes, size=(count, 2)).tolist()]


def undirected_counts(edges: list[tuple[int, int]], nodes: int) -> Tensor:
    """Return how many edges join two nodes, in either direction, float64 ``[N, N]``."""
    counts = torch.zeros(nodes, nodes, dtype=torch.float64)
    for u, v in edges:
        if u != v:
            counts[u, v] += 1
            counts[v, u] += 1
    return counts


def dense_pmi(edges: list[tuple[int, int]], nodes: int, negative: int) -> Tensor:
    """Return the matrix that is factorised, entry by entry, float64 ``[N, N]``."""
    counts = undirected_counts(edges, nodes)
    degrees, pmi = counts.sum(dim=1), torch.zeros_like(counts)
    for u in range(nodes):
        for v in range(nodes):
            if counts[u, v] > 0:
                ratio = float(counts[u, v] * counts.sum() / (degrees[u] * degrees[v]))
                pmi[u, v] = max(0.0, math.log(ratio / negative))
    return pmi


def dense_gram(edges: list[tuple[int, int]], nodes: int, dim: int, steps: int, negative: int) -> Tensor:
    """Return all products of two nodes' vectors, from a full eigendecomposition, float64 ``[N, N]``."""
    values, directions = torch.linalg.eigh(dense_pmi(edges, nodes, negative))
    order = values.abs().argsort(descending=True)
    kept, size = order[:dim], values.abs()[order]
    # Only then is the choice of eigenvectors, and so the reference, unique.
    assert dim >= nodes or size[dim - 1] - size[dim] > 1e-4
    gram = directions[:, kept] @ torch.diag(values[kept].abs()) @ directions[:, kept].t()
    counts = undirected_counts(edges, nodes)
    means = torch.matrix_power(counts / counts.sum(dim=1, keepdim=True).clamp(min=1), steps)
    # A node without neighbours has zeros even where no means are taken.
    lonely = counts.sum(dim=1) == 0
    gram = means @ gram @ means.t()
    gram[lonely], gram[:, lonely] = 0, 0
    return gram


def fitted(observed: Any, **options: Any) -> Tensor:
    return SpectralEncoder(consistent=False, **options).fit(observed, RunContext(seed=1)).vectors


@pytest.mark.parametrize("negative", [1, 2])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize(("nodes", "dim"), [(12, 2), (12, 12), (40, 30), (60, 55)])
def test_vectors_are_those_of_a_dense_decomposition_up_to_rotation(
    nodes: int, dim: int, steps: int, negative: int, observed_graph: Any
) -> None:
    # Directed, with repeated edges, self-loops and, last, a lonely node.
    edges = random_edges(nodes - 1, 3 * nodes, seed=nodes)
    vectors = fitted(observed_graph(edges, nodes), dim=dim, steps=steps, negative=negative)
    assert vectors.shape == (nodes, dim)
    gram = vectors.double() @ vectors.double().t()
    torch.testing.assert_close(gram, dense_gram(edges, nodes, dim, steps, negative), rtol=1e-3, atol=1e-3)


@given(some_edges, st.integers(0, 2))
def test_small_graphs_are_decomposed_whole(observed_graph: Any, edges: list[tuple[int, int]], steps: int) -> None:
    vectors = fitted(observed_graph(edges, NODES), dim=64, steps=steps)
    assert vectors.shape == (NODES, NODES)
    gram = vectors.double() @ vectors.double().t()
    torch.testing.assert_close(gram, dense_gram(edges, NODES, NODES, steps, 1), rtol=1e-3, atol=1e-3)
    lonely = undirected_counts(edges, NODES).sum(dim=1) == 0
    assert not vectors[lonely].any()


@given(some_edges, st.permutations(range(NODES)))
def test_names_and_directions_of_nodes_do_not_matter(
    observed_graph: Any, edges: list[tuple[int, int]], names: list[int]
) -> None:
    vectors = fitted(observed_graph(edges, NODES), steps=2)
    renamed = fitted(observed_graph([(names[v], names[u]) for u, v in edges], NODES), steps=2)[names]
    torch.testing.assert_close(renamed @ renamed.t(), vectors @ vectors.t(), rtol=1e-3, atol=1e-3)


@given(some_edges, st.integers(1, 5))
def test_pmi_is_the_logarithm_on_edges(edges: list[tuple[int, int]], negative: int) -> None:
    pmi = positive_pmi(sp.csr_matrix(undirected_counts(edges, NODES).numpy()), negative)
    expected = dense_pmi(edges, NODES, negative)
    torch.testing.assert_close(torch.from_numpy(pmi.toarray()).double(), expected, rtol=1e-4, atol=1e-5)
    assert pmi.nnz <= int((expected > 0).sum()) + int((expected.abs() < 1e-5).sum())


def test_a_factor_of_few_columns_is_nearly_the_best() -> None:
    torch.manual_seed(0)
    directions, _ = torch.linalg.qr(torch.randn(300, 300))
    values = torch.cat([torch.linspace(5, 3, 20) * torch.tensor([1.0, -1.0]).repeat(10), 0.3 * torch.rand(280)])
    matrix = directions @ torch.diag(values) @ directions.t()
    factor = symmetric_factor(lambda x: matrix @ x, 300, 20)
    magnitude = directions[:, :20] @ torch.diag(values[:20].abs()) @ directions[:, :20].t()
    error = torch.linalg.matrix_norm(factor @ factor.t() - magnitude) / torch.linalg.matrix_norm(magnitude)
    assert float(error) < 0.02
    lengths = factor.norm(dim=0)
    assert bool((lengths[:-1] >= lengths[1:]).all())


@pytest.mark.parametrize("columns", ["independent", "nearly dependent", "equal", "zero"])
def test_orthonormal_columns_span_what_they_are_made_of(columns: str) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(200, 12)
    if columns == "nearly dependent":
        matrix[:, 1:] = matrix[:, :1] + 1e-4 * matrix[:, 1:]
    elif columns == "equal":
        matrix[:, 3] = matrix[:, 4]
    elif columns == "zero":
        matrix.zero_()
    basis = orthonormal(matrix)
    torch.testing.assert_close(basis.t() @ basis, torch.eye(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(basis @ (basis.t() @ matrix), matrix, rtol=1e-4, atol=1e-4)


def test_communities_lie_apart(observed_graph: Any) -> None:
    edges = [(u, v) for half in (range(10), range(10, 20)) for u in half for v in half if u != v] + [(0, 10), (10, 0)]
    directions = torch.nn.functional.normalize(fitted(observed_graph(edges, 20), dim=4, steps=2), dim=1)
    cosines = directions @ directions.t()
    assert cosines[:10, :10].min() > cosines[:10, 10:].max() + 0.3


def test_features_and_labels_are_not_read(observed_graph: Any) -> None:
    edges = random_edges(10, 30, seed=0)
    plain = observed_graph(edges, 10)
    dressed = observed_graph(edges, 10, features=torch.randn(10, 3), labels=[0, 1] * 5, train=[0, 1], val=[2])
    assert torch.equal(fitted(plain), fitted(dressed))

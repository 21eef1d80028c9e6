"""Diffused features against dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from dgl_rbm.encoders import diffusion
from dgl_rbm.encoders.diffusion import DiffusionEncoder
from dgl_rbm.encoders.fit import WeightedEncoder, fit_encodings
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.runtime.context import RunContext

NODES, COLUMNS = 30, 8


@pytest.fixture(scope="module")
def case(observed_graph: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return a random graph, its features, and the dense matrix of means over neighbours."""
    generator = np.random.default_rng(0)
    edges = [tuple(pair) for pair in generator.integers(0, NODES - 1, (80, 2)).tolist()]
    features = torch.from_numpy(generator.normal(size=(NODES, COLUMNS)) * (generator.random((NODES, COLUMNS)) < 0.5))
    features = features.float()
    means = torch.zeros(NODES, NODES)
    for v in range(NODES):
        neighbors = [u for u, w in edges if w == v and u != v]
        for u in neighbors:
            means[v, u] += 1 / len(neighbors)
    return observed_graph(edges, NODES, features=features), features, means


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_svd_is_that_of_the_features_after_all_steps_but_one(case: Any, steps: int) -> None:
    observed, features, means = case
    output = DiffusionEncoder(dim=3, steps=steps).fit(observed, RunContext(seed=1))
    diffused = torch.linalg.matrix_power(means, steps - 1) @ features
    left, values, _ = torch.linalg.svd(diffused, full_matrices=False)
    expected = left[:, :3] * values[:3]
    # Singular vectors are determined up to their sign.
    signs = torch.sign((expected * output.vectors).sum(dim=0))
    torch.testing.assert_close(output.vectors, expected * signs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.encodings, means @ output.vectors)


@pytest.mark.parametrize("steps", [1, 3])
def test_random_projection_is_linear_in_the_diffused_features(case: Any, steps: int) -> None:
    observed, features, means = case
    vectors = DiffusionEncoder(dim=20, steps=steps, projection="random").fit(observed, RunContext(seed=1)).vectors
    assert vectors.shape == (NODES, 20)
    diffused = torch.linalg.matrix_power(means, steps - 1) @ features
    projection = torch.linalg.lstsq(diffused.double(), vectors.double()).solution
    torch.testing.assert_close(diffused.double() @ projection, vectors.double(), atol=1e-5, rtol=1e-5)
    # Lengths are kept on average.
    ratio = vectors.norm() / diffused.norm()
    assert 0.6 < ratio < 1.4


@pytest.mark.parametrize("projection", ["svd", "random"])
def test_sparse_features_give_the_same(case: Any, observed_graph: Any, projection: Any) -> None:
    observed, features, _ = case
    edges = list(zip(*(part.tolist() for part in observed.graph.edges()), strict=True))
    sparse = observed_graph(edges, NODES, features=as_rows(sp.csr_matrix(features.numpy())))
    encoder = DiffusionEncoder(dim=3, steps=2, projection=projection)
    torch.testing.assert_close(
        encoder.fit(sparse, RunContext(seed=1)).vectors,
        encoder.fit(observed, RunContext(seed=1)).vectors,
        atol=1e-4,
        rtol=1e-4,
    )


def test_svd_has_no_more_columns_than_the_features_and_keeps_their_geometry(case: Any) -> None:
    observed, features, _ = case
    vectors = DiffusionEncoder(dim=64).fit(observed, RunContext()).vectors
    assert vectors.shape == (NODES, COLUMNS)
    torch.testing.assert_close(vectors @ vectors.t(), features @ features.t(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_basis_is_orthonormal_and_spans_the_columns(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "_ROWS_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(rank)
    scales = 10.0 ** -torch.arange(rank)
    columns = (torch.randn(40, rank, generator=generator) * scales) @ torch.randn(rank, 5, generator=generator)
    basis = diffusion._orthonormal(columns)
    assert basis.shape == (40, rank)
    torch.testing.assert_close(basis.t() @ basis, torch.eye(rank), atol=1e-4, rtol=0)
    torch.testing.assert_close(basis @ (basis.t() @ columns), columns, atol=1e-4, rtol=1e-4)


def test_features_of_low_rank_give_zeros_beyond_it(observed_graph: Any) -> None:
    flat = torch.arange(12.0)[:, None] * torch.ones(1, 4)
    observed = observed_graph([(i, (i + 1) % 12) for i in range(12)], 12, features=flat)
    vectors = DiffusionEncoder(dim=2).fit(observed, RunContext()).vectors
    assert vectors.shape == (12, 2)
    torch.testing.assert_close(vectors[:, 0].abs(), torch.linalg.vector_norm(flat, dim=1), atol=1e-4, rtol=1e-5)
    assert float(vectors[:, 1].abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("edges", "value", "steps"), [([], 1.0, 2), ([(0, 1), (1, 2)], 0.0, 1)], ids=["no edges", "no features"]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_averages_that_are_all_zero_give_zeros(
    observed_graph: Any, edges: list[Any], value: float, steps: int, sparse: bool
) -> None:
    features = torch.full((12, 4), value)
    rows = as_rows(sp.csr_matrix(features.numpy())) if sparse else features
    observed = observed_graph(edges, 12, features=rows)
    part = WeightedEncoder(DiffusionEncoder(dim=3, steps=steps))
    encodings = fit_encodings([part], observed, RunContext(seed=1))
    assert encodings.vectors.tolist() == encodings.values.tolist() == [[0.0] * 3] * 12
    assert encodings.from_neighbors([[0, 1], []]).tolist() == [[0.0] * 3] * 2

"""k-means in torch against scikit-learn and against a slow iteration in plain Python."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.students.layers import kmeans
from dgl_rbm.students.layers.lloyd import _kmeans_plus_plus, _run_lloyd, _step, _UnitRows, lloyd_centres


def sparse(x: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(x.numpy()))


def blobs(count: int, dim: int, centres: int, spread: float, seed: int) -> Tensor:
    """Return rows of any length around random directions, with many zeros."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(centres, dim, generator=generator)
    x = middle[torch.arange(count) % centres] + spread * torch.randn(count, dim, generator=generator)
    x = x * (torch.rand(count, dim, generator=generator) > 0.3)
    x[:, 0] += 0.01
    return x * (0.1 + torch.rand(count, 1, generator=generator))


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x)


def inertia(x: Tensor, centres: Tensor) -> float:
    return float(torch.cdist(unit(x).double(), centres.double()).min(dim=1).values.square().sum())


# Separated clusters, touching clusters, and none.
@pytest.mark.parametrize("spread", [0.1, 0.6, 3.0])
@pytest.mark.parametrize("num_clusters", [2, 5, 8])
def test_inertia_is_as_low_as_scikit_learns(spread: float, num_clusters: int) -> None:
    x = blobs(600, 20, 5, spread, seed=num_clusters)
    theirs = KMeans(num_clusters, n_init=3, max_iter=100, random_state=0).fit(unit(x).numpy())
    for rows in (x, sparse(x)):
        centres = lloyd_centres(rows, num_clusters, np.random.default_rng(0))
        assert centres.shape == (num_clusters, 20)
        assert inertia(x, centres) <= 1.03 * theirs.inertia_


def slow_step(x: Tensor, centres: Tensor) -> tuple[list[list[float]], float]:
    """Return the centres after one iteration of Lloyd's algorithm, row by row, and the inertia before it."""
    dim = x.shape[1]
    sums, counts, total = [[0.0] * dim for _ in centres], [0] * len(centres), 0.0
    for h in unit(x).tolist():
        apart = [sum((a - b) ** 2 for a, b in zip(h, c, strict=True)) for c in centres.tolist()]
        nearest = apart.index(min(apart))
        counts[nearest] += 1
        sums[nearest] = [a + b for a, b in zip(sums[nearest], h, strict=True)]
        total += min(apart)
    means = [
        [value / count for value in row] if count else old
        for row, count, old in zip(sums, counts, centres.tolist(), strict=True)
    ]
    return means, total


@given(seed=st.integers(0, 10_000), count=st.integers(6, 30), num_clusters=st.integers(1, 5))
def test_a_step_equals_the_slow_iteration(seed: int, count: int, num_clusters: int) -> None:
    x = blobs(count, 4, 3, 0.5, seed)
    # With rows as centres, no cluster is empty.
    centres = unit(x)[:num_clusters]
    expected, total = slow_step(x, centres)
    for values in (x, sparse(x)):
        rows = _UnitRows(values)
        distances, labels = rows.squared_distances(centres).min(dim=1)
        assert float(distances.sum()) == pytest.approx(total, abs=1e-4)
        torch.testing.assert_close(_step(rows, centres, distances, labels), torch.tensor(expected), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 10_000), num_clusters=st.integers(1, 6))
def test_lloyd_converges_to_a_fixed_point_without_empty_clusters(seed: int, num_clusters: int) -> None:
    x = blobs(40, 5, 4, 0.8, seed)
    rows = _UnitRows(x)
    start = _kmeans_plus_plus(rows, num_clusters, np.random.default_rng(seed))
    centres, found = _run_lloyd(rows, start, 200)
    again, total = slow_step(x, centres)
    torch.testing.assert_close(centres, torch.tensor(again), atol=1e-5, rtol=0)
    assert found == pytest.approx(total, abs=1e-3)
    assert found <= slow_step(x, start)[1] + 1e-4
    assert len(rows.squared_distances(centres).argmin(dim=1).unique()) == num_clusters


def test_an_empty_cluster_moves_to_the_farthest_row() -> None:
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    far_away = torch.tensor([[1.0, 0.0], [-5.0, -5.0]])
    rows = _UnitRows(x)
    moved = _step(rows, far_away, *rows.squared_distances(far_away).min(dim=1))
    torch.testing.assert_close(moved[1], x[2])
    torch.testing.assert_close(moved[0], unit(x[:2]).mean(dim=0))


def test_initial_centres_are_distant_rows() -> None:
    x = torch.eye(6)[torch.arange(300) % 6] * (1 + torch.arange(300)[:, None])
    for seed in range(10):
        start = _kmeans_plus_plus(_UnitRows(x), 6, np.random.default_rng(seed))
        torch.testing.assert_close(start.max(dim=0).values, torch.ones(6))


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cluster rows on the CPU as if they were on a GPU."""

    def centres(x: Tensor, num_clusters: int) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31 - 1, (), device="cpu")))
        return kmeans._centres_on_device(x, num_clusters, rng)

    monkeypatch.setattr(kmeans, "kmeans_centres", centres)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize(
    "x", [torch.ones(9, 4), torch.ones(2, 4), torch.zeros(5, 4), torch.eye(4)[[0, 1] * 4]], ids=str
)
def test_few_distinct_rows_give_distinct_centres_without_warnings(x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in (x, sparse(x)):
            centres = kmeans.kmeans_centres(values, 4)
            assert centres.shape == (4, 4)
            assert torch.isfinite(centres).all()
            assert len(np.unique(centres.numpy(), axis=0)) == 4
            assert (centres.norm(dim=1) > 0).all()


@pytest.mark.usefixtures("on_device")
def test_centres_are_reproducible_from_torchs_generator_and_ignore_zero_rows() -> None:
    x = blobs(200, 8, 4, 0.5, seed=0)
    results = []
    for values in (x, x, torch.cat([x[:50], torch.zeros(7, 8), x[50:]])):
        torch.manual_seed(1)
        results.append(kmeans.kmeans_centres(values.requires_grad_(), 4))
    assert torch.equal(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])
    assert not results[0].requires_grad


@pytest.mark.usefixtures("on_device")
def test_all_tensors_are_created_on_the_device_of_the_rows() -> None:
    """With another default device, a tensor created without a device could not be combined with the rows."""
    x = blobs(60, 5, 3, 0.5, seed=2)
    x[3] = 0
    torch.manual_seed(1)
    expected = kmeans.kmeans_centres(x, 3)
    torch.manual_seed(1)
    with torch.device("meta"):
        found = kmeans.kmeans_centres(x, 3)
    assert torch.equal(found, expected)


def test_scikit_learn_clusters_rows_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(kmeans, "_centres_on_device", lambda *given: calls.append(given))
    assert kmeans.kmeans_centres(blobs(30, 4, 2, 0.1, seed=0), 2).shape == (2, 4)
    assert not calls
    kmeans.kmeans_centres(torch.empty(5, 4, device="meta"), 2)
    assert len(calls) == 1

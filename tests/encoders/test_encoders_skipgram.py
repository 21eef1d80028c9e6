"""Steps of skip-gram on blocks of walks against sums over all their pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dgl_rbm.encoders import skipgram
from dgl_rbm.encoders.skipgram import SkipGram
from dgl_rbm.errors import DataError

DIM = 3
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def some_walks(nodes: int, count: int, length: int, ended: bool) -> Tensor:
    walks = torch.randint(nodes, (count, length))
    if ended:
        for walk in walks:
            walk[int(torch.randint(2, length + 1, ())) :] = -1
    return walks


def model_of(nodes: int, length: int, window: int, device: str = "cpu") -> SkipGram:
    """Return a model whose tables are no longer at their start; one node's steps are long."""
    visits = torch.arange(nodes, dtype=torch.float32)
    model = SkipGram(visits, dim=DIM, walk_length=length, window=window, negative=5, device=device)
    model.vectors, model.contexts = torch.randn(nodes, DIM).to(device), torch.randn(nodes, DIM).to(device)
    model.contexts[2] *= 1000
    return model


def sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def reference_step(model: SkipGram, walks: Tensor, noise: Tensor, window: int, rate: float, turn: int) -> Any:
    """Return both tables after a step, pair by pair; `noise` has the noise nodes of each tile."""
    x, y = (table.cpu().double().numpy() for table in (model.vectors, model.contexts))
    of_x, of_y = np.zeros_like(x), np.zeros_like(y)
    met_x, met_y = np.zeros(len(x)), np.zeros(len(x))
    tiles = len(noise) // len(walks)
    for number, walk in enumerate(walks.tolist()):
        for tile in range(tiles):
            drawn = noise[number * tiles + tile].tolist()
            first = tile * model._tile
            rows = [i for i in range(first, first + model._tile) if i < len(walk) and walk[i] >= 0]
            reach = range(first - model._halo, first + model._tile + model._halo)
            columns = [j for j in reach if j % 3 == turn % 3 and 0 <= j < len(walk) and walk[j] >= 0]
            for j in columns:
                met_y[walk[j]] += 1
            for node in drawn:
                met_y[node] += 1
            for i in rows:
                u = walk[i]
                met_x[u] += 1
                weights = 0.0
                for j in columns:
                    if 0 < abs(i - j) <= window:
                        weight = 3 * (window - abs(i - j) + 1) / window
                        slope = weight * (sigmoid(x[u] @ y[walk[j]]) - 1)
                        of_x[u] += slope * y[walk[j]]
                        of_y[walk[j]] += slope * x[u]
                        weights += weight
                for node in drawn:
                    slope = weights * model.negative / len(drawn) * sigmoid(x[u] @ y[node])
                    of_x[u] += slope * y[node]
                    of_y[node] += slope * x[u]
    return after(x, of_x, met_x, rate), after(y, of_y, met_y, rate)


def after(table: np.ndarray, gradients: np.ndarray, met: np.ndarray, rate: float) -> Tensor:
    """Return a table after the step that these sums of gradients ask for."""
    moved = table.copy()
    for node, gradient in enumerate(gradients):
        step = gradient / (1 + met[node] / 10)
        moved[node] -= rate * step * min(1, 80 / max(np.linalg.norm(step), 1e-12))
    return torch.from_numpy(moved)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("nodes", [9, 5000])
@pytest.mark.parametrize("turn", [0, 1, 5])
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize(
    ("length", "window"), [(2, 1), (7, 3), (10, 40), (64, 5), (65, 5), (100, 4), (131, 7), (150, 40)]
)
def test_a_step_is_the_sum_over_pairs(
    length: int, window: int, ended: bool, turn: int, nodes: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(length)
    model = model_of(nodes, length, window, device)
    walks = some_walks(nodes, 4, length, ended)
    walks[0, 0] = 2
    drawn: list[Tensor] = []
    update = model._update

    def spy(rows: Tensor, columns: Tensor, weights: Tensor, *rest: Any) -> None:
        drawn.append(columns.view(-1, weights.shape[2])[:, -skipgram._NOISE_PER_TILE :].cpu())
        update(rows, columns, weights, *rest)

    monkeypatch.setattr(model, "_update", spy)
    before = SkipGram.__new__(SkipGram)
    before.__dict__.update(model.__dict__, vectors=model.vectors.clone(), contexts=model.contexts.clone())
    model.step(walks.to(device), 0.05, turn)
    vectors, contexts = reference_step(before, walks, drawn[0], window, 0.05, turn)
    torch.testing.assert_close(model.vectors.cpu().double(), vectors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.contexts.cpu().double(), contexts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "window"), [(10, 3), (100, 5)])
def test_the_turns_together_see_each_pair_as_often_as_word2vec_does(length: int, window: int) -> None:
    """word2vec draws the window from 1 to `window`, so that a distance d counts in window − d + 1 cases of all."""
    model = model_of(9, length, window)
    seen = torch.zeros(length, length)
    for turn in range(3):
        (weights, pulls) = model._whole[turn]
        torch.testing.assert_close(weights[..., : -skipgram._NOISE_PER_TILE], -pulls[..., : -skipgram._NOISE_PER_TILE])
        rows, columns = model._cut(torch.arange(length)[None], turn)
        for tile in range(len(rows)):
            for a, i in enumerate(rows[tile].tolist()):
                for b, j in enumerate(columns[tile].tolist()):
                    if i >= 0 and j >= 0:
                        seen[i, j] += weights[tile, a, b] / 3
                    else:
                        assert weights[tile, a, b] == 0
    for i in range(length):
        for j in range(length):
            d = abs(i - j)
            expected = (window - d + 1) / window if 0 < d <= window else 0.0
            assert float(seen[i, j]) == pytest.approx(expected)


def test_noise_follows_the_power_of_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    visits = torch.tensor([0.0, 1.0, 16.0, 0.0, 81.0, 0.0])
    model = SkipGram(visits, dim=2, walk_length=4, window=2, negative=5)
    counts = torch.zeros(len(visits))

    def count(rows: Tensor, columns: Tensor, weights: Tensor, *rest: Any) -> None:
        counts.add_(torch.bincount(columns.view(-1, weights.shape[2])[:, 2:].flatten(), minlength=len(visits)))

    monkeypatch.setattr(model, "_update", count)
    model.step(torch.ones(5000, 4, dtype=torch.int64), 0.1, 0)
    torch.testing.assert_close(counts / counts.sum(), torch.tensor([0, 1, 8, 0, 27, 0]) / 36, rtol=0.05, atol=0)


LEAVES = torch.randint(1, 1000, (2000, 25), generator=torch.Generator().manual_seed(0))
STAR = torch.stack([torch.zeros_like(LEAVES), LEAVES], dim=2).flatten(1)
PAIR = torch.tensor([[0, 1] * 25])


@pytest.mark.parametrize("negative", [5, 50])
@pytest.mark.parametrize("walks", [STAR, PAIR], ids=["star", "pair"])
def test_nothing_diverges_where_few_nodes_meet_often(walks: Tensor, negative: int) -> None:
    torch.manual_seed(0)
    model = SkipGram(torch.bincount(walks.flatten()), dim=8, walk_length=50, window=5, negative=negative)
    for turn in range(100 if walks is PAIR else 20):
        model.step(walks, 0.025, turn)
    assert float(model.vectors.norm(dim=1).max()) < 10
    assert float(model.contexts.norm(dim=1).max()) < 10


def test_blocks_are_small_on_small_graphs_and_bounded_on_large_ones() -> None:
    def block_size(nodes: int) -> int:
        return SkipGram(torch.ones(nodes), dim=1, walk_length=50, window=5, negative=5).block_size

    assert block_size(3) == 1
    assert block_size(1000) == 80
    assert block_size(100_000) == block_size(1_000_000) < 400


@pytest.mark.parametrize("visits", [torch.zeros(0), torch.zeros(3)])
def test_without_visits_there_is_nothing_to_learn(visits: Tensor) -> None:
    with pytest.raises(DataError, match="no node is visited"):
        SkipGram(visits, dim=2, walk_length=4, window=2, negative=5)

"""KRD: reliability under feature noise, and the terms that its configs build."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.krd import KrdRegularizer, perturbed
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.sparse import Rows, SparseRows, matmul
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.neighbor_targets import ExpectedNeighborTargets, SampledNeighborTargets

NODES, COLUMNS, CLASSES = 5, 4, 3


class LinearTeacher(Teacher):
    """Predicts from a node's own features, and records its inputs."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.seen: list[Rows] = []

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        raise AssertionError("a fitted teacher is not fitted again")

    def predict(self, view: GraphView, context: RunContext, *, features: Rows | None = None) -> TeacherOutput:
        shown = view.features if features is None else features
        self.seen.append(shown)
        return TeacherOutput(matmul(shown, self.weight))


@pytest.fixture
def observed() -> ObservedGraph:
    features = torch.randn(NODES, COLUMNS, generator=torch.Generator().manual_seed(0))
    return ObservedGraph(
        graph=dgl.graph((torch.tensor([0, 1, 1, 2, 3, 3]), torch.tensor([1, 0, 2, 1, 3, 0])), num_nodes=NODES),
        features=features,
        node_ids=torch.arange(NODES),
        labels=torch.full((NODES,), -1),
        train_idx=torch.empty(0, dtype=torch.int64),
        val_idx=torch.empty(0, dtype=torch.int64),
        num_classes=CLASSES,
    )


@pytest.fixture
def teacher() -> LinearTeacher:
    return LinearTeacher(torch.randn(COLUMNS, CLASSES, generator=torch.Generator().manual_seed(1)))


def entropy_of(probs: Tensor) -> float:
    return -sum(float(p) * float(p.log()) for p in probs)


def test_reliability_is_the_mean_squared_change_of_entropy(observed: ObservedGraph, teacher: LinearTeacher) -> None:
    output = teacher.predict(observed, RunContext())
    regularizer = KrdRegularizer(noise_std=0.5, noise_samples=3)
    reliability = regularizer._reliability(observed, teacher, output, RunContext(seed=2))
    noisy = teacher.seen[1:]
    assert len(noisy) == 3
    for node in range(NODES):
        clean = entropy_of(torch.softmax(output.logits[node], dim=0))
        changes = [
            (entropy_of(torch.softmax(shown[node] @ teacher.weight, dim=0)) - clean) ** 2
            for shown in noisy
            if isinstance(shown, Tensor)
        ]
        assert reliability[node].item() == pytest.approx(sum(changes) / 3 / 0.5**2, rel=1e-3)


def test_targets_are_tempered_and_neighbours_are_in_neighbours(observed: ObservedGraph, teacher: LinearTeacher) -> None:
    output = teacher.predict(observed, RunContext())
    targets = KrdRegularizer(weight=0.5).prepare(observed, teacher, output, 0.8, RunContext())
    log_probs = torch.log_softmax(torch.randn(1, CLASSES), dim=1)
    # Node 2 has the only neighbour 1; node 3 has itself alone.
    probs = torch.softmax(output.logits / 0.8, dim=1)
    divergence = float((probs[1] * (probs[1].log() - log_probs[0])).sum())
    assert targets._sampling_weights()[1] > 0
    assert targets.summed_loss(log_probs, torch.tensor([2])).item() == pytest.approx(0.5 * divergence, rel=1e-4)
    assert targets.summed_loss(log_probs, torch.tensor([3])).item() == 0


def test_the_same_seed_gives_the_same_reliability_and_the_stage_is_reported(
    observed: ObservedGraph, teacher: LinearTeacher
) -> None:
    seen: list[tuple[str, int]] = []

    class Recorder(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            seen.append((stage, done))

    output = teacher.predict(observed, RunContext())
    regularizer = KrdRegularizer(noise_samples=2)
    first, again, other = (
        regularizer._reliability(observed, teacher, output, RunContext(seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    regularizer.prepare(observed, teacher, output, 1.0, RunContext(callbacks=[Recorder()]))
    assert seen == [("regularizer", 1), ("regularizer", 2)]


def test_noise_has_its_standard_deviation_and_does_not_modify_the_features() -> None:
    torch.manual_seed(0)
    features = torch.randn(200, 50)
    before = features.clone()
    noise = perturbed(features, 0.3) - features
    assert torch.equal(features, before)
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(noise.mean().item()) < 0.01


def test_only_small_sparse_features_become_dense() -> None:
    matrix = sp.random(40, 30, density=0.1, random_state=0, format="csr")
    features = as_rows(matrix)
    small = perturbed(features, 0.1)
    assert isinstance(small, Tensor)
    assert (small == 0).sum() == 0
    large = perturbed(features, 0.1, most_dense_bytes=40 * 30 * 4 - 1)
    assert isinstance(large, SparseRows)
    assert isinstance(features, SparseRows)
    stored = features.to_dense() != 0
    assert torch.equal(large.to_dense() != 0, stored)
    assert not torch.equal(large.to_dense()[stored], features.to_dense()[stored])
    torch.testing.assert_close(features.to_dense(), torch.from_numpy(matrix.toarray()).float())


def test_configs_build_each_estimator(observed: ObservedGraph, teacher: LinearTeacher) -> None:
    output = teacher.predict(observed, RunContext())
    expected = regularizers.resolve("krd").build().prepare(observed, teacher, output, 1.0, RunContext())
    assert type(expected) is ExpectedNeighborTargets
    config = regularizers.resolve({"kind": "krd", "estimator": "sampled", "samples": 4, "initial_power": 2.0})
    sampled = config.build().prepare(observed, teacher, output, 1.0, RunContext())
    assert type(sampled) is SampledNeighborTargets
    assert (sampled.samples, sampled.power) == (4, 2.0)


def test_invalid_options_raise_errors() -> None:
    with pytest.raises(ConfigError, match="estimator"):
        regularizers.resolve({"kind": "krd", "estimator": "exact"})
    with pytest.raises(ConfigError, match="noise_std"):
        regularizers.resolve({"kind": "krd", "noise_std": 0})

"""Correct and Smooth against loops over nodes and edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm import make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.encoders.correct_and_smooth import CorrectAndSmoothEncoder
from dgl_rbm.errors import ConfigError
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import TeacherOutput
from dgl_rbm.teachers.none import NoTeacher

NODES, CLASSES = 12, 3
EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (1, 6), (6, 7), (7, 8), (8, 9), (2, 9), (4, 10)]
LABELS = [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 0]


def task() -> Any:
    both = EDGES + [(b, a) for a, b in EDGES]
    source, destination = zip(*both, strict=True)
    graph = dgl.graph((torch.tensor(source), torch.tensor(destination)), num_nodes=NODES)
    parts = {"train": torch.tensor([0, 2, 4, 6]), "val": torch.tensor([1, 3, 5]), "test": torch.tensor([7, 8, 9, 11])}
    features = torch.eye(NODES)
    return make_task(graph, features=features, labels=torch.tensor(LABELS), **parts, setting="transductive", seed=0)


def neighbours(node: int) -> list[int]:
    return [b for a, b in EDGES if a == node] + [a for a, b in EDGES if b == node]


def spread(start: np.ndarray, alpha: float, steps: int) -> np.ndarray:
    values = start.copy()
    for _ in range(steps):
        new = (1 - alpha) * start
        for node in range(NODES):
            around = neighbours(node)
            for other in around:
                new[node] += alpha * values[other] / len(around)
        values = new
    return values


def reference(predicted: np.ndarray, known: list[int]) -> np.ndarray:
    errors = np.zeros_like(predicted)
    for node in known:
        errors[node] = np.eye(CLASSES)[LABELS[node]] - predicted[node]
    scale = np.mean([np.abs(errors[node]).sum() for node in known])
    spread_errors = spread(errors, 0.7, 6)
    corrected = predicted.copy()
    for node in range(NODES):
        length = np.abs(spread_errors[node]).sum()
        if node in known:
            corrected[node] = np.eye(CLASSES)[LABELS[node]]
        elif length:
            corrected[node] += scale * spread_errors[node] / length
    return spread(corrected, 0.4, 6).clip(0, 1)


@pytest.mark.parametrize("consistent", [False, True])
def test_vectors_and_encodings_are_those_of_the_loops(consistent: bool) -> None:
    observed = task().observed()
    logits = torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(2))
    encoder = CorrectAndSmoothEncoder(steps=6, correct_alpha=0.7, smooth_alpha=0.4, folds=4, consistent=consistent)
    context = RunContext(seed=0, device=torch.device("cpu"))
    output = encoder.bind_teacher(NoTeacher(), TeacherOutput(logits)).fit(observed, context)
    predicted = logits.softmax(dim=1).double().numpy()
    known = observed.train_idx.tolist()

    def encoded(vectors: np.ndarray) -> np.ndarray:
        if not consistent:
            return vectors
        means = [
            vectors[neighbours(node)].mean(axis=0) if neighbours(node) else np.zeros(CLASSES) for node in range(NODES)
        ]
        return np.stack(means)

    everything = reference(predicted, known)
    np.testing.assert_allclose(output.vectors.numpy(), everything, atol=1e-5)
    for node in range(NODES):
        # With as many folds as training nodes, each is encoded without its own label alone.
        expected = encoded(reference(predicted, [other for other in known if other != node]))[node]
        np.testing.assert_allclose(output.encodings[node].numpy(), expected, atol=1e-5)


def test_it_needs_predictions() -> None:
    with pytest.raises(ConfigError, match="reads a teacher's predictions, but there are none"):
        CorrectAndSmoothEncoder().fit(task().observed(), RunContext(seed=0, device=torch.device("cpu")))

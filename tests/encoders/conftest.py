"""Small observed graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import ObservedGraph


def _observed(
    edges: list[tuple[int, int]],
    num_nodes: int,
    *,
    features: Any = None,
    labels: list[int] | None = None,
    train: list[int] | None = None,
    val: list[int] | None = None,
    num_classes: int = 2,
) -> ObservedGraph:
    source = torch.tensor([u for u, _ in edges], dtype=torch.int64)
    destination = torch.tensor([v for _, v in edges], dtype=torch.int64)
    return ObservedGraph(
        graph=dgl.graph((source, destination), num_nodes=num_nodes),
        features=torch.zeros(num_nodes, 1) if features is None else features,
        node_ids=torch.arange(num_nodes),
        labels=torch.tensor(labels if labels is not None else [-1] * num_nodes),
        train_idx=torch.tensor(train or [], dtype=torch.int64),
        val_idx=torch.tensor(val or [], dtype=torch.int64),
        num_classes=num_classes,
    )


@pytest.fixture(scope="session")
def observed_graph() -> Callable[..., ObservedGraph]:
    """Return a function that makes an observed graph of a list of edges (source, destination)."""
    return _observed

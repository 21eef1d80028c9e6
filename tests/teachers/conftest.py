"""A tiny graph of two communities that every teacher should separate."""

from __future__ import annotations

import pytest
import torch

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import ObservedGraph


@pytest.fixture
def observed() -> ObservedGraph:
    """Return 30 nodes of each class; the last two have no edges, and features alone say little."""
    generator = torch.Generator().manual_seed(0)
    count = 60
    truth = (torch.arange(count) >= count // 2).long()
    same = truth[:, None] == truth[None, :]
    linked = torch.rand(count, count, generator=generator) < torch.where(same, 0.25, 0.02)
    linked = torch.triu(linked, 1)
    linked[:, -2:] = False
    source, destination = (linked | linked.T).nonzero(as_tuple=True)
    features = torch.randn(count, 6, generator=generator)
    features[:, 0] += 1.5 * (2 * truth - 1)
    features[features.abs() < 0.4] = 0.0
    order = torch.randperm(count, generator=generator)
    train_idx, val_idx = order[:16].sort().values, order[16:40].sort().values
    labels = torch.full((count,), -1)
    labels[train_idx], labels[val_idx] = truth[train_idx], truth[val_idx]
    graph = dgl.graph((source, destination), num_nodes=count)
    return ObservedGraph(graph, features, torch.arange(count), labels, train_idx, val_idx, 2)

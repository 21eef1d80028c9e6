"""A small graph with communities, and a distiller that is quick on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dgl_rbm import Distiller, NodeTask, make_task
from dgl_rbm.data.dgl_compat import dgl

NODES, CLASSES = 90, 3


def community_arrays() -> dict[str, Any]:
    """Return edges, features and labels of three communities with a few edges between them."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(NODES) % CLASSES
    likely = (labels[:, None] == labels[None, :]) * 0.2 + 0.01
    upper = torch.triu(torch.rand(NODES, NODES, generator=generator) < likely, diagonal=1)
    source, destination = upper.nonzero(as_tuple=True)
    features = torch.eye(CLASSES)[labels].repeat(1, 2) + 0.8 * torch.randn(NODES, 2 * CLASSES, generator=generator)
    return {
        "edges": (torch.cat([source, destination]), torch.cat([destination, source])),
        "features": features,
        "labels": labels,
    }


def community_task(setting: str = "transductive", **changes: Any) -> NodeTask:
    """Return a task; `changes` replace edges, features or labels before the split is applied."""
    parts = community_arrays() | changes
    return make_task(
        dgl.graph(parts["edges"], num_nodes=NODES),
        features=parts["features"],
        labels=parts["labels"],
        name="communities",
        train=torch.arange(0, 18),
        val=torch.arange(18, 36),
        test=torch.arange(36, NODES),
        edge_weight=parts.get("edge_weight"),
        setting=setting,  # type: ignore[arg-type]
        unseen_fraction=0.5,
        seed=0,
    )


def quick_distiller(**options: Any) -> Distiller:
    """Return a distiller that takes about a second on the communities."""
    teacher = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 25}}
    quick: dict[str, Any] = {"teacher": teacher, "encoder": "diffusion", "training": {"epochs": 20, "lr": 0.03}}
    return Distiller(**quick | {"device": "cpu"} | options)


@pytest.fixture
def task() -> NodeTask:
    return community_task()

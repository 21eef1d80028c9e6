"""Arguments of `make_task`: every value makes the task that it describes, or ends in the package's own error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from odd_values import odd_arguments, outcome

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.make import make_task, task_from_graph

N = 8
ARGUMENTS = {
    "features": np.random.default_rng(0).random((N, 3)),
    "labels": [0, 1, 0, 1, 0, 1, 0, 1],
    "train": [0, 1],
    "val": [2, 3],
    "test": [4, 5, 6],
}
OPTIONS = (
    *("name", "split", "setting", "unseen_fraction", "normalize", "rescale", "symmetrize", "seed", "num_classes"),
    *("node_ids", "classes", "split_index", "allow_missing_classes"),
)


def ring() -> Any:
    graph = dgl.graph((np.arange(N), (np.arange(N) + 1) % N), num_nodes=N)
    graph.ndata["feat"] = torch.eye(N)
    graph.ndata["label"] = torch.arange(N) % 2
    for place, part in enumerate(("train_mask", "val_mask", "test_mask")):
        graph.ndata[part] = torch.arange(N) // 2 == place
    return graph


GRAPH = ring()


@pytest.mark.filterwarnings("ignore::dgl_rbm.errors.DataWarning")
@pytest.mark.parametrize("name", [*ARGUMENTS, *OPTIONS])
@settings(max_examples=60)
@given(value=odd_arguments)
def test_arguments_of_make_task(name: str, value: Any) -> None:
    if (task := outcome(make_task, GRAPH, **(ARGUMENTS | {name: value}))) is None:
        return
    assert len(task.ids) == N
    assert task.num_classes == len(task.classes) >= 2
    rows = task.features if isinstance(task.features, torch.Tensor) else task.features.to_dense()
    assert bool(torch.isfinite(rows).all())
    if name == "node_ids" and value is not None:
        assert task.ids.values.tolist() == list(np.asarray(value).tolist())


@pytest.mark.filterwarnings("ignore::dgl_rbm.errors.DataWarning")
@pytest.mark.parametrize("name", ["graph", "features", "labels", "train_mask", "node_ids", "split", "split_index"])
@settings(max_examples=60)
@given(value=odd_arguments)
def test_arguments_of_task_from_graph(name: str, value: Any) -> None:
    if (task := outcome(task_from_graph, **({"graph": GRAPH} | {name: value}))) is None:
        return
    assert len(task.ids) == N

"""Arguments of `Distiller`, its `fit` and `Run.load`: used as what they are, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Distiller, NodeTask, Run
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ConfigError, DataError, UnknownNameError
from dgl_rbm.run.config import resolve_config

from .conftest import NODES, community_arrays, quick_distiller


@pytest.mark.parametrize("callbacks", ["abc", 3, [print], {"a": 1}])
def test_callbacks_are_checked(callbacks):
    with pytest.raises(ConfigError, match=r"dgl_rbm\.Callback"):
        Distiller(callbacks=callbacks)


def test_one_of_several_splits_that_lacks_a_class(tmp_path: Path) -> None:
    parts = community_arrays()
    graph = dgl.graph(parts["edges"], num_nodes=NODES)
    labels = parts["labels"]
    graph.ndata["feat"], graph.ndata["label"] = parts["features"], labels
    place = torch.arange(NODES) // 3 % 3
    for number, name in enumerate(("train_mask", "val_mask", "test_mask")):
        masks = torch.stack([(place == number), (place == (number + 1) % 3)], dim=1)
        if name == "train_mask":
            masks[:, 1] &= labels != 0
        graph.ndata[name] = masks
    with pytest.raises(DataError, match=r"have 2 masks; choose one of them with `split_index`, 0 to 1"):
        quick_distiller().fit(graph)
    with pytest.raises(DataError, match=r"class 0 of .*allow_missing_classes=True"):
        quick_distiller().fit(graph, split_index=1)
    run = quick_distiller(student="mlp").fit(graph, split_index=1, allow_missing_classes=True)
    expected = graph.ndata["train_mask"][:, 1].nonzero().squeeze(1)
    assert torch.equal(run.task.train_idx, expected)
    dgl.save_graphs(str(tmp_path / "graph.bin"), [graph])
    dataset = {"kind": "file", "path": str(tmp_path / "graph.bin")}
    saved = (
        quick_distiller(student="mlp").fit(dataset, split_index=1, allow_missing_classes=True).save(tmp_path / "run")
    )
    loaded = Run.load(saved)
    assert torch.equal(loaded.task.train_idx, expected)
    torch.testing.assert_close(loaded.student_logits, run.student_logits)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("out", [3, "", b"a", "a\0b", "\ud800", "a" * 5000]),
        ("shared", [3, "", "a\0b"]),
        ("max_hours", ["1", 0, -1, float("nan"), [1], 1j]),
        ("latency_of", ["student", ["pupil"], None, 3]),
    ],
)
def test_arguments_of_fit_are_checked(task: NodeTask, option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"{option} is "):
            quick_distiller().fit(task, **{option: value})


def test_arguments_of_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config is 3; expected a DistillConfig"):
        Distiller.from_config(3)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"no method \[1\]"):
        Distiller.from_method([1])  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="no recipe 3"):
        Distiller.from_method("nosmog", recipe=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="task is 'digits'; expected a NodeTask"):
        Run.load(tmp_path, task="digits")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="student is 'mlp'; expected a Student"):
        Run.load(tmp_path, student="mlp")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="folder is 3; expected a path"):
        Run.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [None, 3, "mlp", ["mlp"]])
def test_a_configuration_is_a_mapping(values: Any) -> None:
    with pytest.raises(ConfigError, match="expected a mapping of options"):
        resolve_config(values)

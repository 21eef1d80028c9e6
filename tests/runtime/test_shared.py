"""Parts shared between runs: keyed by everything they depend on, and computed by one process at a time."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import NodeTask
from dgl_rbm.data.load import load_task
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.fingerprint import fingerprint, part_keys
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.shared import NullSharedParts, SharedParts

CPU = torch.device("cpu")
GRAPH = {"kind": "synthetic", "num_nodes": 120, "num_features": 8}


@pytest.fixture(scope="module")
def task() -> NodeTask:
    return load_task(GRAPH, "inductive", 0)


def keys(task: NodeTask, device: torch.device = CPU, **options: Any) -> dict[str, str]:
    return part_keys(resolve_config({"dataset": GRAPH, **options}), task.observed(), device)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"student": {"kind": "mlp", "hidden_dim": 3}}, set()),
        ({"objective": {"temperature": 3.0}}, set()),
        ({"training": {"epochs": 3}}, set()),
        ({"teacher": {"kind": "sage", "hidden_dim": 3}}, {"teacher", "hidden", "reliability"}),
        ({"teacher": "gcn"}, {"teacher", "hidden", "reliability"}),
        ({"encoder": {"kind": "diffusion", "dim": 3}}, {"encodings"}),
        ({"encoder": ["diffusion", "none"]}, {"encodings"}),
        ({"regularizer": {"kind": "krd", "noise_samples": 3}}, {"reliability"}),
        ({"seed": 1}, {"teacher", "hidden", "encodings", "reliability"}),
    ],
)
def test_dependencies_of_each_part(task: NodeTask, options: dict[str, Any], changed: set[str]) -> None:
    before, after = keys(task), keys(task, **options)
    assert {name for name in before if before[name] != after[name]} == changed


def test_parts_depend_only_on_the_observed_graph(task: NodeTask) -> None:
    before = keys(task)
    labels = task._labels.clone()
    labels[task.test_idx] = 0
    hidden = task.features.clone()  # type: ignore[union-attr]
    hidden[task.unseen_idx] = -7.0
    assert keys(dataclasses.replace(task, _labels=labels, features=hidden)) == before
    labels[task.train_idx[0]] = (labels[task.train_idx[0]] + 1) % task.num_classes
    everything = set(before)
    # The same graph under other node ids.
    shifted = dataclasses.replace(task.observed(), node_ids=task.observed().node_ids + 1)
    config = resolve_config({"dataset": GRAPH})
    assert not set(part_keys(config, shifted, CPU).values()) & set(before.values())
    for changes in ({"_labels": labels}, {"features": -task.features}, {"num_classes": 9}):  # type: ignore[operator]
        after = keys(dataclasses.replace(task, **changes))
        assert {name for name in before if before[name] != after[name]} == everything
    assert not set(keys(task, torch.device("cuda")).values()) & set(before.values())


def test_a_logits_file_is_identified_by_its_content(task: NodeTask, tmp_path: Path) -> None:
    path = tmp_path / "logits.npy"
    options = {"teacher": {"kind": "logits", "path": str(path)}, "regularizer": "none"}
    path.write_bytes(b"one")
    before = keys(task, **options)
    path.write_bytes(b"two")
    assert keys(task, **options)["teacher"] != before["teacher"]


class Reused(Callback):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)


def test_the_second_run_reuses_the_part_of_the_first(tmp_path: Path) -> None:
    made: list[int] = []
    results = []
    for run in range(3):
        reused = Reused()
        context = RunContext(callbacks=(reused,), shared=SharedParts(tmp_path, {"teacher": "ab" * 32}))

        def compute(run: int = run, context: RunContext = context) -> dict[str, Any]:
            made.append(run)
            with context.stage("teacher", 1) as stage:
                stage.step(1, loss=0.5)
            return {"weights": torch.arange(3.0)}

        results.append((context.cached("teacher", compute)["weights"].tolist(), context.history, context.seconds))
        # Without a key, hence not shared.
        assert context.cached("student", lambda run=run: {"run": run}) == {"run": run}
        assert reused.stages == ([] if run == 0 else ["teacher"])
    assert made == [0]
    assert results[0] == results[1] == results[2]


def test_a_damaged_part_is_computed_again(tmp_path: Path) -> None:
    parts = SharedParts(tmp_path, {"teacher": "ab" * 32})
    assert RunContext(shared=parts).cached("teacher", lambda: {"x": 1}) == {"x": 1}
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:20])
    assert RunContext(shared=parts).cached("teacher", lambda: {"x": 2}) == {"x": 2}
    assert RunContext(shared=parts).cached("teacher", lambda: {"x": 3}) == {"x": 2}


def test_a_second_run_waits_for_the_first_and_reuses_its_part(tmp_path: Path) -> None:
    entered, finish, made = threading.Event(), threading.Event(), []

    def run(name: str) -> None:
        def compute() -> dict[str, Any]:
            made.append(name)
            entered.set()
            assert finish.wait(30)
            return {"by": name}

        found[name] = RunContext(shared=SharedParts(tmp_path, {"teacher": "ab" * 32})).cached("teacher", compute)

    found: dict[str, Any] = {}
    first = threading.Thread(target=run, args=("first",))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=run, args=("second",))
    second.start()
    second.join(0.5)
    assert second.is_alive(), "the second one did not wait"
    finish.set()
    first.join(30)
    second.join(30)
    assert made == ["first"]
    assert found == {"first": {"by": "first"}, "second": {"by": "first"}}


def test_a_failed_run_releases_the_part(tmp_path: Path) -> None:
    parts = SharedParts(tmp_path, {"teacher": "ab" * 32})
    with pytest.raises(ZeroDivisionError):
        RunContext(shared=parts).cached("teacher", lambda: 1 / 0)
    assert RunContext(shared=parts).cached("teacher", lambda: {"x": 1}) == {"x": 1}


def test_the_null_object_shares_nothing(tmp_path: Path) -> None:
    context = RunContext(shared=NullSharedParts())
    assert context.cached("teacher", lambda: {"x": 1}) == {"x": 1}
    assert context.cached("teacher", lambda: {"x": 2}) == {"x": 2}


def test_logits_files_in_nested_averages_are_identified_by_their_content(task: NodeTask, tmp_path: Path) -> None:
    path = tmp_path / "logits.npy"
    inner = {"kind": "average", "members": [{"kind": "logits", "path": str(path)}, "gcn"]}
    options = {"teacher": {"kind": "average", "members": ["sage", inner]}, "regularizer": "none"}
    config = resolve_config({"dataset": GRAPH, **options})
    found = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.append((keys(task, **options)["teacher"], fingerprint(config, task.observed())))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_reusing_a_part_discards_the_runs_own_progress(tmp_path: Path) -> None:
    own = CheckpointStore(tmp_path / "run", "print")
    own.save("teacher-progress", {"epoch": 3})
    parts = SharedParts(tmp_path / "shared", {"teacher": "ab" * 32})
    RunContext(shared=parts).cached("teacher", lambda: {"x": 1})
    assert RunContext(checkpoints=own, shared=parts).cached("teacher", lambda: {"x": 2}) == {"x": 1}
    assert own.load("teacher-progress") is None

"""Stages: what they declare is all that they can read, and all that their keys depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import NodeTask, RunContext
from dgl_rbm.data.load import load_task
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.fingerprint import run_identity
from dgl_rbm.run.parts import HIDDEN, TEACHER, stages_of
from dgl_rbm.run.stages import Scope, Stage, StageRunner, stage_key

CPU = torch.device("cpu")
GRAPH = {"kind": "synthetic", "num_nodes": 120, "num_features": 8}


@pytest.fixture(scope="module")
def task() -> NodeTask:
    return load_task(GRAPH, "inductive", 0)


def keys(observed: ObservedGraph, device: torch.device = CPU, **options: Any) -> dict[str, str]:
    config = resolve_config({"dataset": GRAPH, "encoder": "diffusion", **options})
    stages, identity = stages_of(config), run_identity(observed, config.seed, device)
    of_interest: tuple[Stage[Any], ...] = (TEACHER, HIDDEN, *stages.regularizers, stages.encodings, stages.student)
    return {stage.name: stage_key(stage, config, identity) for stage in of_interest}


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"student": {"kind": "mlp", "hidden_dim": 3}}, {"student"}),
        ({"objective": {"temperature": 3.0}}, {"regularizer krd", "student"}),
        ({"training": {"epochs": 3}}, {"student"}),
        ({"teacher": {"kind": "sage", "hidden_dim": 3}}, {"teacher", "hidden", "regularizer krd", "student"}),
        ({"teacher": "gcn"}, {"teacher", "hidden", "regularizer krd", "student"}),
        ({"encoder": {"kind": "diffusion", "dim": 3}}, {"encodings", "student"}),
        ({"encoder": ["diffusion", "none"]}, {"encodings", "student"}),
        ({"regularizer": {"kind": "krd", "noise_samples": 3}}, {"regularizer krd", "student"}),
        ({"seed": 1}, {"teacher", "hidden", "regularizer krd", "encodings", "student"}),
    ],
)
def test_what_a_stage_depends_on(task: NodeTask, options: dict[str, Any], changed: set[str]) -> None:
    before, after = keys(task.observed()), keys(task.observed(), **options)
    assert {name for name in before if before[name] != after[name]} == changed


def test_it_depends_on_the_observed_graph_alone(task: NodeTask) -> None:
    before = keys(task.observed())
    labels = task._labels.clone()
    labels[task.test_idx] = 0
    hidden = task.features.clone()  # type: ignore[union-attr]
    hidden[task.unseen_idx] = -7.0
    assert keys(dataclasses.replace(task, _labels=labels, features=hidden).observed()) == before
    labels[task.train_idx[0]] = (labels[task.train_idx[0]] + 1) % task.num_classes
    everything = set(before)
    # The same graph, with other nodes of the whole one in it.
    shifted = dataclasses.replace(task.observed(), node_ids=task.observed().node_ids + 1)
    assert not set(keys(shifted).values()) & set(before.values())
    for changes in ({"_labels": labels}, {"features": -task.features}, {"num_classes": 9}):  # type: ignore[operator]
        after = keys(dataclasses.replace(task, **changes).observed())
        assert {name for name in before if before[name] != after[name]} == everything
    assert not set(keys(task.observed(), torch.device("cuda")).values()) & set(before.values())


def test_precomputed_logits_are_known_by_their_content(task: NodeTask, tmp_path: Path) -> None:
    path = tmp_path / "logits.npy"
    options = {"teacher": {"kind": "logits", "path": str(path)}, "regularizer": "none"}
    path.write_bytes(b"one")
    before = keys(task.observed(), **options)
    path.write_bytes(b"two")
    assert keys(task.observed(), **options)["teacher"] != before["teacher"]


def test_files_of_teachers_in_averages_of_averages_are_known_by_their_content(task: NodeTask, tmp_path: Path) -> None:
    path = tmp_path / "logits.npy"
    inner = {"kind": "average", "members": [{"kind": "logits", "path": str(path)}, "gcn"]}
    options = {"teacher": {"kind": "average", "members": ["sage", inner]}, "regularizer": "none"}
    found = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.append(keys(task.observed(), **options)["teacher"])
    assert found[0] == found[2]
    assert found[0] != found[1]


def runner(observed: ObservedGraph) -> StageRunner:
    return StageRunner(resolve_config({"dataset": GRAPH}), observed, RunContext(), {}, list)


def test_a_stage_reads_declared_fields_alone(task: NodeTask) -> None:
    def compute(scope: Scope) -> tuple[float, str]:
        assert not hasattr(scope.config, "training")
        with pytest.raises(AttributeError, match="'mine' reads 'hard_label_weight', which is not among its declared"):
            scope.config.objective.hard_label_weight  # noqa: B018
        return scope.config.objective.temperature, scope.config.teacher.kind

    stage = Stage("mine", compute, fields=("objective.temperature", "teacher"))
    assert runner(task.observed()).result(stage) == (1.0, "sage")


def test_a_stage_reads_declared_results_alone_and_each_is_computed_once(task: NodeTask) -> None:
    computed = []

    def base(scope: Scope) -> int:
        computed.append("base")
        return 3

    first, other = Stage("first", base), Stage("other", base)

    def compute(scope: Scope) -> int:
        with pytest.raises(LookupError, match="'sum' does not declare 'other' as upstream"):
            scope.result(other)
        return scope.result(first) + scope.result(first)

    total = Stage("sum", compute, upstream=(first,))
    run = runner(task.observed())
    assert [run.result(total), run.result(total), run.result(first)] == [6, 6, 3]
    assert computed == ["base"]

"""Sizes are refused before anything is trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

import dgl_rbm.run.sizes
from dgl_rbm import Distiller
from dgl_rbm.config import StrictConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import REGISTRIES
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.sizes import check_sizes
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore

LARGEST = 2**31 - 1


def whole_numbers() -> list[tuple[str, str, str]]:
    found = []
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            for option, field in registry.config_class(name).model_fields.items():
                if "int" in str(field.annotation) and not option.endswith("seed"):
                    found.append((kind, name, option))
    return found


@pytest.mark.parametrize(("kind", "name", "option"), whole_numbers())
@pytest.mark.parametrize("value", [2**31, 10**40, -(2**31)])
def test_no_component_takes_numbers_that_overflow(kind: str, name: str, option: str, value: int) -> None:
    with pytest.raises(ConfigError, match=option):
        REGISTRIES[kind].resolve({"kind": name, "path": "x", option: value})


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"training": {"epochs": 2**31}}, "training -> epochs"),
        ({"teacher": {"kind": "sage", "training": {"fanouts": [5, 2**31]}}}, "fanouts"),
        ({"seed": 2**63}, "seed"),
        ({"student": {"kind": "mlp", "num_layers": 201}}, "num_layers"),
        ({"teacher": {"kind": "sage", "training": {"num_workers": 10**6}}}, "num_workers"),
        ({"student": {"kind": "rbm", "num_experts": 10**6}}, "num_experts"),
    ],
)
def test_sections_and_lists_have_limits_too(values: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError, match=path):
        resolve_config(values)


def test_seeds_have_a_range_of_their_own() -> None:
    assert resolve_config({"seed": 2**63 - 1}).seed == 2**63 - 1

    class Own(StrictConfig):
        count: int
        split_seed: int

    assert Own(count=LARGEST, split_seed=2**40).count == LARGEST


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"teacher": {"kind": "sage", "hidden_dim": LARGEST}}, "teacher: it has at least"),
        ({"teacher": {"kind": "gcn", "hidden_dim": LARGEST}}, "teacher: it has at least"),
        ({"teacher": {"kind": "appnp", "hidden_dim": LARGEST}}, "teacher: it has at least"),
        ({"teacher": ["sage", {"kind": "gcn", "hidden_dim": LARGEST}]}, "teacher -> members 1: it has at least"),
        ({"student": {"kind": "mlp", "hidden_dim": LARGEST}}, "student: it has at least"),
        ({"student": {"kind": "rbm", "width_factor": LARGEST}}, "student: it has at least"),
        ({"student": {"kind": "moe", "hidden_dim": LARGEST, "width_factor": LARGEST}}, "more than 2⁶³ parameters"),
        ({"student": {"kind": "auto", "candidates": ["mlp", {"kind": "mlp", "hidden_dim": LARGEST}]}}, "candidates 1"),
    ],
)
def test_models_beyond_the_memory_are_named(values: dict[str, Any], part: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        check_sizes(resolve_config(values))
    assert part in str(caught.value)
    assert f"training needs {20 if 'teacher' in values else 24} bytes for each" in str(caught.value)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(("averaging", "size"), [(0.98, 24), (0.0, 20)])
def test_the_limit_is_exact(monkeypatch: pytest.MonkeyPatch, averaging: float, size: int) -> None:
    student = {"kind": "mlp", "hidden_dim": 5}
    config = resolve_config(
        {"teacher": "none", "regularizer": "none", "student": student, "training": {"averaging": averaging}}
    )
    # Two layers: 3·5 weights and 5 biases, then 5·4 and 4.
    needed = size * (3 * 5 + 5 + 5 * 4 + 4)
    monkeypatch.setattr(dgl_rbm.run.sizes, "memory_bytes", lambda: needed)
    check_sizes(config, 3, 4)
    monkeypatch.setattr(dgl_rbm.run.sizes, "memory_bytes", lambda: needed - 1)
    with pytest.raises(ConfigError, match="student: it has at least 44 parameters"):
        check_sizes(config, 3, 4)


def tensors_of(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


@pytest.mark.parametrize(("averaging", "size"), [(0.98, 24), (0.0, 20)])
def test_the_bytes_are_those_that_training_keeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, averaging: float, size: int
) -> None:
    kept: dict[str, int] = {}
    save = CheckpointStore.save

    def record(store: CheckpointStore, name: str, state: Any) -> None:
        # Counters of steps have a single entry.
        tensors = [each for each in tensors_of(state) if each.is_floating_point() and each.numel() > 1]
        kept[name] = sum(each.numel() * each.element_size() for each in tensors)
        save(store, name, state)

    monkeypatch.setattr(CheckpointStore, "save", record)
    run = Distiller(
        teacher={"kind": "sage", "hidden_dim": 8, "norm": "none", "training": {"epochs": 2}},
        student={"kind": "mlp", "hidden_dim": 8, "norm": "none"},
        encoder="none",
        regularizer="none",
        training={"epochs": 2, "averaging": averaging},
        device="cpu",
    ).fit("digits", out=tmp_path / "run")
    assert run.metrics.teacher is not None
    # The gradients are not in the checkpoint of the last epoch.
    assert kept["teacher-progress"] == (20 - 4) * run.metrics.teacher.parameters
    assert kept["student-progress"] == (size - 4) * run.student.num_parameters()


def test_nothing_is_trained_for_a_student_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []

    class Record(Callback):
        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            stages.append(stage)

    # 64 columns of digits: within the limit by the lower bound, beyond it with the graph's own width.
    monkeypatch.setattr(dgl_rbm.run.sizes, "memory_bytes", lambda: 24 * 20_000_000)
    distiller = Distiller(student={"kind": "mlp", "hidden_dim": 1_000_000}, device="cpu", callbacks=[Record()])
    check_sizes(distiller.config)
    with pytest.raises(ConfigError, match="student: it has at least"):
        distiller.fit("digits")
    assert stages == ["data"]

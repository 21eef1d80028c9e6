"""Whole runs with RbM's options past the paper: resumed past the choice of numbers of experts, saved and loaded,
and several teachers, which leak nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Distiller, Run
from dgl_rbm.errors import ConfigError
from dgl_rbm.runtime.callbacks import Callback

from .conftest import community_task, quick_distiller
from .test_leaks import assert_identical, with_garbage_test_labels, with_garbage_unseen_part

STUDENT = {
    "kind": "rbm",
    "num_experts": "auto",
    "top_k": 2,
    "pretrain_epochs": 4,
    "router_inputs": "encoding",
    "expert_inputs": "features",
    "routing": "euclidean",
    "learn_gate_scale": True,
}


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        if stage == "student" and done == self.epoch:
            raise KeyboardInterrupt


def distiller(**options: Any) -> Distiller:
    return quick_distiller(**({"student": STUDENT, "encoder": {"kind": "diffusion", "dim": 5}} | options))


@cache
def whole_run(batch_size: int | None) -> Run:
    return distiller(training={"epochs": 12, "batch_size": batch_size}).fit(community_task())


@pytest.mark.parametrize("batch_size", [None, 40])
@pytest.mark.parametrize("epoch", [2, 4, 9])
def test_a_stopped_run_resumes_to_the_same_bits(epoch: int, batch_size: int | None, tmp_path: Path) -> None:
    whole, training = whole_run(batch_size), {"epochs": 12, "batch_size": batch_size}
    numbers = [layer.experts.num_experts for layer in whole.student.layers]
    assert numbers != [8, 8], "the resumed student must be of another size than a new one"
    with pytest.raises(KeyboardInterrupt):
        distiller(training=training, callbacks=[StopAt(epoch)]).fit(community_task(), out=tmp_path)
    resumed = distiller(training=training).fit(community_task(), out=tmp_path)
    states = whole.student.state_dict(), resumed.student.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0].keys() | states[1].keys())
    assert torch.equal(whole.student_logits, resumed.student_logits)


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_a_saved_run_comes_back(setting: str, tmp_path: Path) -> None:
    result = distiller(setting=setting).fit(community_task(setting))
    result.save(tmp_path / "run")
    assert result.config.student.encoding_dim == 5
    saved = Run.load(tmp_path / "run")
    x = result.inputs(list(range(10)))
    assert torch.equal(saved.predictor.student.logits(x), result.student.logits(x))
    one = saved.predictor.student.logits(x[:1])
    torch.testing.assert_close(one, saved.predictor.student.logits(x)[:1])


def test_routing_on_encodings_needs_some() -> None:
    with pytest.raises(ConfigError, match="'encoding', but 0 of the 6 columns") as caught:
        distiller(encoder="none").fit(community_task())
    assert "--encoder diffusion" in caught.value.hint


SEVERAL = [{"kind": kind, "hidden_dim": 8, "training": {"epochs": 8}} for kind in ("sage", "appnp", "sage")]


@cache
def clean_run_of_several_teachers() -> Run:
    return distiller(teacher=SEVERAL, regularizer="krd").fit(community_task("inductive"))


@pytest.mark.parametrize("garbage", [with_garbage_test_labels, with_garbage_unseen_part])
def test_what_must_stay_unknown_changes_nothing(garbage: Any) -> None:
    clean = clean_run_of_several_teachers()
    assert_identical(clean, distiller(teacher=SEVERAL, regularizer="krd").fit(garbage(clean.task)))

"""Whole runs with options that keep a state of their own, stopped and resumed to the same bits."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Distiller
from dgl_rbm.runtime.callbacks import Callback

from .conftest import community_task, quick_distiller
from .test_leaks import assert_identical, with_garbage_test_labels, with_garbage_unseen_part

AVERAGED = {"epochs": 10, "averaging": 0.9, "schedule": "cosine"}
TERMS = [
    {"kind": "similarity", "weight": 0.5, "rows": 20},
    {"kind": "adversarial", "weight": 0.2, "rows": 15},
    {"kind": "pseudo_labels", "rounds": 2, "every": 3, "confidence": 0.2, "smooth": True},
]
CHOOSING = {"kind": "rbm", "num_experts": "auto", "top_k": 2, "pretrain_epochs": 4, "norm": "batch"}
CALIBRATED = {
    "kind": "average",
    "members": [{"kind": kind, "hidden_dim": 8, "training": {"epochs": 6}} for kind in ("sage", "appnp")],
    "weights": "validation",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "averaged weights of a student that chooses its experts": {
        "student": CHOOSING,
        "training": AVERAGED | {"record_routing": True},
    },
    "the same in batches, with every term": {
        "student": CHOOSING,
        "regularizer": ["krd", *TERMS],
        "training": AVERAGED | {"batch_size": 40},
    },
    "calibrated teachers": {"teacher": CALIBRATED, "student": "mlp", "training": {"epochs": 10}},
    "calibrated teachers of candidates": {
        "teacher": CALIBRATED,
        "student": {"kind": "auto", "candidates": [{"kind": "ensemble", "norm": "batch"}, CHOOSING]},
        "regularizer": ["edge_consistency", *TERMS],
        "training": AVERAGED | {"batch_size": 40},
    },
}
# Stage, how often it has started, and the step; the fourth epoch of the student that chooses ends its pre-training.
PLACES: dict[str, list[tuple[str, int, int]]] = {
    "averaged weights of a student that chooses its experts": [("student", 1, 2), ("student", 1, 4), ("student", 1, 8)],
    "the same in batches, with every term": [("student", 1, 4), ("student", 1, 8)],
    "calibrated teachers": [("teacher", 1, 6), ("teacher", 2, 3), ("student", 1, 5)],
    "calibrated teachers of candidates": [("student", 1, 8), ("student", 2, 9)],
}


class StopAt(Callback):
    """Stops a run after a step of the stage that starts for the given time."""

    def __init__(self, stage: str, start: int, step: int) -> None:
        self.stage, self.start, self.step, self.starts = stage, start, step, 0

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self.starts += stage == self.stage

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if (stage, self.starts, done) == (self.stage, self.start, self.step):
            raise KeyboardInterrupt


def run(options: dict[str, Any], *callbacks: Callback, out: Path | None = None) -> Any:
    encoder = {"kind": "diffusion", "dim": 5}
    distiller = quick_distiller(encoder=encoder, callbacks=callbacks, **options)
    return distiller.fit(community_task(), out=out, latency_of=())


@cache
def whole_run(name: str) -> Any:
    return run(OPTIONS[name])


@cache
def clean_run(name: str) -> Any:
    return inductive(name).fit(community_task("inductive"), latency_of=())


def inductive(name: str) -> Distiller:
    return quick_distiller(encoder={"kind": "diffusion", "dim": 5}, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_stopped_run_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    options = OPTIONS[name]
    whole = whole_run(name)
    for i, place in enumerate(PLACES[name]):
        with pytest.raises(KeyboardInterrupt):
            run(options, StopAt(*place), out=tmp_path / str(i))
        resumed = run(options, out=tmp_path / str(i))
        assert_identical(whole, resumed)
        assert torch.equal(whole.student_logits, resumed.student_logits)
        assert torch.equal(whole.teacher_logits, resumed.teacher_logits)
        assert whole.metrics.candidates == resumed.metrics.candidates


def test_a_chosen_number_of_experts_differs_from_that_of_a_new_student() -> None:
    """Else the runs above would say nothing of averages of another size than a new student's."""
    student = whole_run("averaged weights of a student that chooses its experts").student
    assert [layer.experts.num_experts for layer in student.layers] != [8, 8]


@pytest.mark.parametrize("garbage", [with_garbage_test_labels, with_garbage_unseen_part])
@pytest.mark.parametrize("name", ["the same in batches, with every term", "calibrated teachers of candidates"])
def test_what_must_stay_unknown_changes_nothing(name: str, garbage: Any) -> None:
    clean = clean_run(name)
    other = inductive(name).fit(garbage(clean.task), latency_of=())
    assert_identical(clean, other)
    assert clean.metrics.candidates == other.metrics.candidates

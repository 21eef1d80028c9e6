"""Runs that are killed in the middle of a step, as a machine that is switched off kills them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Callback, Distiller
from dgl_rbm.training import epochs

OPTIONS: dict[str, Any] = {
    "teacher": {
        "kind": "sage",
        "hidden_dim": 8,
        "training": {"sampler": "neighbor", "fanouts": [3, 5], "epochs": 4, "batch_size": 64},
    },
    "encoder": {"kind": "diffusion", "dim": 4},
    "regularizer": {"kind": "krd", "noise_samples": 3, "warmup_epochs": 2},
    "student": {"kind": "rbm", "pretrain_epochs": 2},
    "training": {"epochs": 4, "batch_size": 100},
    "device": "cpu",
}
DATASET = {"kind": "synthetic", "num_nodes": 400, "num_features": 8, "memory_map": "always"}

# Each run is a process of its own, since nothing can catch the signal. It is forked from one that has imported torch.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dgl_rbm.run.distiller", "dgl_rbm.training.epochs"])


class KillIn(Callback):
    """Kill the process in the first part of a stage's step after `step` whole ones."""

    def __init__(self, stage: str, step: int) -> None:
        self.stage, self.step, self.done = stage, step, 0

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self.done = 0

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        self.done = done

    def on_substep(self, stage: str, done: int, total: int) -> None:
        if (stage, self.done) == (self.stage, self.step):
            os.kill(os.getpid(), signal.SIGKILL)


class Steps(Callback):
    """Record the steps that are taken."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        self.taken.append((stage, done))


def run(folder: Path | None, callback: Callback) -> Any:
    """Run the whole pipeline, layer by layer, with a checkpoint after every epoch."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgl_rbm.teachers.sampling._FULL_GRAPH_BYTES_ON_CPU", 0)
        patch.setattr(epochs, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        return Distiller(**OPTIONS, callbacks=[callback]).fit(DATASET, out=folder)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def whole(cache: None) -> Any:
    return run(None, Callback())


@pytest.mark.parametrize(("stage", "step"), [("teacher", 2), ("logits", 0), ("regularizer", 1), ("student", 3)])
def test_a_killed_run_resumes_to_the_same_bits(stage: str, step: int, whole: Any, tmp_path: Path) -> None:
    killed = PROCESSES.Process(target=run, args=(tmp_path, KillIn(stage, step)))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    steps = Steps()
    resumed = run(tmp_path, steps)
    first = next((done for name, done in steps.taken if name == stage), step + 1)
    assert first == step + 1, "whole steps are done again, or one is left out"
    assert torch.equal(resumed.student_logits, whole.student_logits)
    assert torch.equal(resumed.teacher_logits, whole.teacher_logits)
    assert torch.equal(resumed.encodings.values, whole.encodings.values)
    assert resumed.history == whole.history
    weights = resumed.student.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.student.state_dict().items())


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_dgl_makes_no_other_form_of_a_sampled_graph(setting: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgl_rbm.teachers.sampling._FULL_GRAPH_BYTES_ON_CPU", 0)
        result = Distiller(**OPTIONS, setting=setting).fit(DATASET)
    assert result.task.graph.formats()["created"] == ["csc"]

"""Runs in several threads, and under a caller's settings of torch, against the same runs alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dgl_rbm import Distiller, Run
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.make import make_task
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.process_state import isolated

from .conftest import NODES, community_arrays, community_task

SECONDS = 120

TEACHER = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 6}}
SAMPLED = {
    "kind": "sage",
    "hidden_dim": 8,
    "training": {"epochs": 4, "sampler": "neighbor", "batch_size": 8, "fanouts": [2, 2]},
}
FITS: list[dict[str, Any]] = [
    {"teacher": TEACHER, "student": {"kind": "rbm", "pretrain_epochs": 2}},
    {"teacher": SAMPLED, "student": "mlp", "seed": 1},
    {"teacher": [TEACHER, TEACHER], "student": "moe", "encoder": "deepwalk", "seed": 2},
    {"teacher": TEACHER, "student": "ensemble", "regularizer": "krd+adversarial", "setting": "inductive", "seed": 3},
]


def fit(options: dict[str, Any], *callbacks: Callback, **arguments: Any) -> Run:
    distiller = Distiller(**options, training={"epochs": 8}, device="cpu", callbacks=callbacks)
    return distiller.fit(community_task(options.get("setting", "transductive")), latency_of=(), **arguments)


def outcome(run: Run) -> list[Any]:
    """Return everything that training decides, to compare without tolerance."""
    parts = [run.student_logits, run.teacher_logits, run.encodings.values, *run.student.state_dict().values()]
    return [*(part.numpy().tobytes() for part in parts), run.history, run.metrics.student.test_accuracy]


@pytest.fixture(scope="module")
def alone() -> list[list[Any]]:
    return [outcome(fit(options)) for options in FITS]


def test_three_rounds_of_four_fits_in_threads_are_those_of_one_thread(alone: list[list[Any]]) -> None:
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda options: outcome(fit(options)), FITS)) == alone


def test_fits_whose_callbacks_give_other_threads_their_turn(alone: list[list[Any]]) -> None:
    class Noise(Callback):
        def on_step(self, *_: Any) -> None:
            torch.rand(3), np.random.rand(), random.random()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda options: outcome(fit(options, Noise())), FITS)) == alone


def test_a_fit_leaves_the_generators_of_the_caller_as_they_were(alone: list[list[Any]]) -> None:
    def state() -> list[Any]:
        return [torch.get_rng_state().tolist(), [str(part) for part in np.random.get_state()], random.getstate()]

    for seed, options, expected in zip((1, 2, 3, 4), FITS, alone, strict=True):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = state()
        assert outcome(fit(options)) == expected
        assert state() == before


def test_loading_a_run_draws_nothing(tmp_path: Path) -> None:
    fit(FITS[0]).save(tmp_path)
    before = torch.get_rng_state()
    run = Run.load(tmp_path)
    assert run.history
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("event", ["on_stage_start", "on_step", "on_stage_end"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_callback_may_fit_another_student(alone: list[list[Any]], event: str, elsewhere: bool) -> None:
    found: list[Any] = []

    def call(*_: Any) -> None:
        if found:
            return
        found.append(None)
        inner = lambda: outcome(fit(FITS[1]))  # noqa: E731
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(inner).result(timeout=SECONDS) if elsewhere else inner())

    nested = Callback()
    setattr(nested, event, call)
    assert outcome(fit(FITS[0], nested)) == alone[0]
    assert found[1] == alone[1]


def test_threads_share_a_folder_of_parts(tmp_path: Path) -> None:
    ready = threading.Barrier(2, timeout=SECONDS)

    class Together(Callback):
        """The first to train the teacher lets the other run, which waits for the folder's lock."""

        def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
            if stage == "data":
                ready.wait()

    def shared(_: int) -> list[Any]:
        run = fit(FITS[0], Together(), shared=tmp_path)
        return [run.student_logits.tolist(), run.teacher_logits.tolist()]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(shared, range(2), timeout=SECONDS)
    assert first == second


def test_an_interrupted_fit_leaves_everything_to_the_next(alone: list[list[Any]]) -> None:
    class Stop(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if stage == "student":
                raise KeyboardInterrupt

    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fit(FITS[0], Stop())
    assert torch.get_rng_state().equal(before)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: outcome(fit(FITS[0]))).result(timeout=SECONDS) == alone[0]


def test_predictions_do_not_wait_for_a_fit() -> None:
    run = fit(FITS[0])
    rows = community_arrays()["features"]
    expected = run.predictor.predict_proba(rows, node_ids=range(NODES))
    with isolated(), ThreadPoolExecutor(1) as pool:
        predicted = pool.submit(run.predictor.predict_proba, rows, node_ids=range(NODES)).result(timeout=SECONDS)
    assert predicted.equal(expected)


@contextmanager
def setting(change: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(before)


CALLERS: dict[str, Callable[[], Any]] = {
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default device meta": lambda: setting(torch.set_default_device, "meta", None),
    "default device cpu": lambda: setting(torch.set_default_device, "cpu", None),
    "device meta": lambda: torch.device("meta"),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def everything(folder: Path, caller: Callable[[], Any]) -> list[Any]:
    """Return results of task, fit, save, load, predict and evaluate under a caller's settings."""
    arrays = {name: part.numpy() for name, part in community_arrays().items() if name != "edges"}
    graph = dgl.graph(community_arrays()["edges"], num_nodes=NODES)
    rows, lists = arrays["features"], [[1, 2], [], [5], *[[0]] * (NODES - 3)]
    with caller():
        task = make_task(graph, **arrays, split="0.3/0.3/0.4", normalize="standard", setting="inductive")
        distiller = Distiller(
            TEACHER, "rbm", "spectral", "krd", training={"epochs": 6}, device="cpu", setting="inductive"
        )
        run = distiller.fit(task, latency_of=())
        run.save(folder)
        loaded = Run.load(folder, task=task)
        predictor = loaded.predictor
        found = [
            run.student_logits,
            run.teacher_logits,
            loaded.student_logits,
            loaded.teacher.predict(task.full(), RunContext()).logits,
            predictor.predict_proba(rows),
            predictor.predict_proba(rows, neighbors=lists),
            predictor.predict(rows, neighbors=lists),
            loaded.student.logits(loaded.inputs(range(NODES))),
        ]
        scores = loaded.evaluate()
    return [(str(part.dtype), part.numpy().tolist()) for part in found] + [scores]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return everything(tmp_path_factory.mktemp("plain"), nullcontext)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("caller", CALLERS)
def test_settings_of_the_caller_change_nothing(caller: str, plain: list[Any], tmp_path: Path) -> None:
    assert everything(tmp_path, CALLERS[caller]) == plain


def test_a_graph_made_in_inference_mode() -> None:
    arrays = community_arrays()

    def run() -> Any:
        graph = dgl.graph(arrays["edges"], num_nodes=NODES)
        graph.ndata["feat"] = arrays["features"] * 1
        graph.ndata["label"] = arrays["labels"] * 1
        distiller = Distiller(TEACHER, "mlp", training={"epochs": 4}, device="cpu")
        return distiller.fit(graph, split="0.3/0.3/0.4", latency_of=()).student_logits

    expected = run()
    with torch.inference_mode():
        assert run().equal(expected)


def test_features_that_need_gradients() -> None:
    arrays = community_arrays()
    learned = nn.Parameter(arrays["features"])
    task = community_task(features=learned)
    assert not task.features.requires_grad  # type: ignore[union-attr]

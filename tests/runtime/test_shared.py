"""Parts that runs share: computed by one at a time and read by the others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.shared import NullSharedParts, SharedParts

KEY = "ab" * 32


def cached(context: RunContext, name: str, compute: Any, key: str = KEY) -> Any:
    with context.keyed(key, shared=name != "student"):
        return context.cached(name, compute)


class Reused(Callback):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)


def test_the_second_run_takes_what_the_first_one_made(tmp_path: Path) -> None:
    made: list[int] = []
    results = []
    for run in range(3):
        reused = Reused()
        context = RunContext(callbacks=(reused,), shared=SharedParts(tmp_path))

        def compute(run: int = run, context: RunContext = context) -> dict[str, Any]:
            made.append(run)
            with context.stage("teacher", 1) as stage:
                stage.step(1, loss=0.5)
            return {"weights": torch.arange(3.0)}

        results.append((cached(context, "teacher", compute)["weights"].tolist(), context.history, context.seconds))
        # Of a stage that is not shared.
        assert cached(context, "student", lambda run=run: {"run": run}) == {"run": run}
        assert reused.stages == ([] if run == 0 else ["teacher"])
    assert made == [0]
    assert results[0] == results[1] == results[2]


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    parts = SharedParts(tmp_path)
    assert cached(RunContext(shared=parts), "teacher", lambda: {"x": 1}) == {"x": 1}
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:20])
    assert cached(RunContext(shared=parts), "teacher", lambda: {"x": 2}) == {"x": 2}
    assert cached(RunContext(shared=parts), "teacher", lambda: {"x": 3}) == {"x": 2}


def test_who_comes_second_waits_and_takes_it_over(tmp_path: Path) -> None:
    entered, finish, made = threading.Event(), threading.Event(), []

    def run(name: str) -> None:
        def compute() -> dict[str, Any]:
            made.append(name)
            entered.set()
            assert finish.wait(30)
            return {"by": name}

        found[name] = cached(RunContext(shared=SharedParts(tmp_path)), "teacher", compute)

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


def test_who_fails_leaves_the_place_free(tmp_path: Path) -> None:
    parts = SharedParts(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cached(RunContext(shared=parts), "teacher", lambda: 1 / 0)
    assert cached(RunContext(shared=parts), "teacher", lambda: {"x": 1}) == {"x": 1}


def test_the_null_object_shares_nothing(tmp_path: Path) -> None:
    context = RunContext(shared=NullSharedParts())
    assert cached(context, "teacher", lambda: {"x": 1}) == {"x": 1}
    assert cached(context, "teacher", lambda: {"x": 2}) == {"x": 2}


def test_a_part_of_another_key_is_computed_anew(tmp_path: Path) -> None:
    context = RunContext(shared=SharedParts(tmp_path))
    assert cached(context, "teacher", lambda: {"x": 1}) == {"x": 1}
    assert cached(context, "teacher", lambda: {"x": 2}, key="cd" * 32) == {"x": 2}
    assert cached(context, "teacher", lambda: {"x": 3}) == {"x": 1}


def test_what_another_run_finished_leaves_no_progress_behind(tmp_path: Path) -> None:
    own = CheckpointStore(tmp_path / "run", KEY)
    own.save("teacher-progress", {"epoch": 3})
    parts = SharedParts(tmp_path / "shared")
    cached(RunContext(shared=parts), "teacher", lambda: {"x": 1})
    assert cached(RunContext(checkpoints=own, shared=parts), "teacher", lambda: {"x": 2}) == {"x": 1}
    assert own.load("teacher-progress") is None


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    left = tmp_path / f"teacher-{KEY[:24]}" / ".teacher.safetensors.abcd1234"
    others = tmp_path / "encodings-1" / ".encodings.safetensors.abcd1234"
    for path in (left, others):
        path.parent.mkdir()
        path.touch()
    cached(RunContext(shared=SharedParts(tmp_path)), "teacher", lambda: {"a": 1})
    assert not left.exists()
    assert others.exists(), "another process may write it"

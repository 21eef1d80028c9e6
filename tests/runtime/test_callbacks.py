"""Progress within steps, time budgets, and their display."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dgl_rbm import Distiller
from dgl_rbm.console import interrupt, progress
from dgl_rbm.console.progress import BarProgress, LineProgress
from dgl_rbm.errors import ConfigError, TimeBudgetError
from dgl_rbm.runtime.callbacks import Callback, TimeBudget
from dgl_rbm.runtime.context import RunContext


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder(Callback):
    """Records its calls."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def on_step(self, stage, done, metrics):
        self.events.append(("step", stage, done))

    def on_substep(self, stage, done, total):
        self.events.append(("substep", stage, done, total))


def test_substeps_belong_to_the_running_stage() -> None:
    recorder = Recorder()
    context = RunContext(callbacks=[recorder])
    context.substep(1, 2)
    with context.stage("outer", 2) as outer:
        context.substep(1, 4)
        with context.stage("inner"):
            context.substep(2, 4)
        context.substep(3, 4)
        outer.step(1)
    with pytest.raises(RuntimeError), context.stage("failing"):
        raise RuntimeError
    context.substep(1, 2)
    assert recorder.events == [
        ("substep", "outer", 1, 4),
        ("substep", "inner", 2, 4),
        ("substep", "outer", 3, 4),
        ("step", "outer", 1),
    ]


def test_a_time_budget_stops_a_run_between_steps_or_within_a_long_step() -> None:
    clock = Clock()
    budget = TimeBudget(2, patience=10, clock=clock)
    clock.now += 2 * 3600 - 1
    budget.on_stage_start("teacher", 5, "epochs")
    budget.on_step("teacher", 1, {})
    clock.now += 1
    budget.on_substep("teacher", 1, 2)
    for end in (lambda: budget.on_step("teacher", 2, {}), lambda: budget.on_stage_start("student", 5, "epochs")):
        with pytest.raises(TimeBudgetError, match="The time budget of 2 hours was used up in the stage"):
            end()
    # The last step: stopping before the stage is saved would lose it.
    budget.on_step("teacher", 5, {})
    clock.now += 10
    with pytest.raises(TimeBudgetError):
        budget.on_substep("teacher", 2, 2)
    assert TimeBudgetError("").exit_code == 75


@pytest.mark.parametrize("hours", [0, -1, float("nan")])
def test_a_time_budget_is_above_zero(hours: float) -> None:
    with pytest.raises(ConfigError, match="max_hours"):
        TimeBudget(hours)


def test_ctrl_c_waits_for_a_short_step_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(interrupt.time, "monotonic", clock)
    stop = interrupt._StopAtStep()
    stop.on_substep("teacher", 1, 9)
    stop.requested, stop.requested_at = True, clock.now
    stop.on_substep("teacher", 2, 9)
    clock.now += interrupt.PATIENCE_WITHIN_A_STEP
    with pytest.raises(KeyboardInterrupt):
        stop.on_substep("teacher", 3, 9)
    stop.total = 3
    with pytest.raises(KeyboardInterrupt):
        stop.on_step("teacher", 1, {})
    # The last step: the stage is saved before the next one starts.
    stop.on_step("teacher", 3, {})
    with pytest.raises(KeyboardInterrupt):
        stop.on_stage_start("student", 3, "epochs")


def test_lines_show_the_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    output = io.StringIO()
    lines = LineProgress(Console(file=output, width=200))
    lines.on_stage_start("teacher", 10, "epochs")
    clock.now += 60
    lines.on_substep("teacher", 1, 2)
    clock.now += 60
    lines.on_step("teacher", 1, {"loss": 0.5})
    clock.now += 1
    lines.on_substep("teacher", 1, 100)
    lines.on_stage_end("teacher", 121.0, True)
    # Resumed at the eighth of ten epochs: earlier ones took no time in this process.
    lines.on_stage_start("student", 10, "epochs")
    clock.now += 20
    lines.on_step("student", 8, {})
    lines.on_stage_start("logits", 1, "steps")
    clock.now += 6
    lines.on_substep("logits", 1, 4)
    assert output.getvalue().splitlines() == [
        "teacher: started, up to 10 epochs",
        "teacher: 0/10 epochs  50% of the next  at most 19 min to go",
        "teacher: 1/10 epochs  loss 0.5000  at most 18 min to go",
        "teacher: done in 121.0 s  loss 0.5000",
        "student: started, up to 10 epochs",
        "student: 8/10 epochs  at most 40 s to go",
        "logits: started",
        "logits: 25%  at most 18 s to go",
    ]


def test_bars_move_within_a_step() -> None:
    bars = BarProgress(Console(file=io.StringIO(), force_terminal=True, width=120))
    with bars:
        bars.on_stage_start("teacher", 4, "epochs")
        bars.on_step("teacher", 1, {})
        bars.on_substep("teacher", 3, 4)
        assert bars.progress.tasks[0].completed == 1.75
        bars.on_step("teacher", 2, {})
        bars.on_stage_end("teacher", 1.0, True)
        bars.on_stage_start("logits", 1, "steps")
        bars.on_substep("logits", 1, 4)
        shown = [column.render(task).plain for task in bars.progress.tasks for column in bars.progress.columns[3:4]]
    assert shown == ["2/2", "25%"]


def test_a_time_budget_that_ends_in_an_encoder_keeps_the_encodings(tmp_path: Path) -> None:
    class Late(Callback):
        """Exhausts the budget after the first of two steps of the encoder."""

        def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
            if stage == "encoder" and done == 1:
                clock.now += 10 * 3600

    clock = Clock()
    options: Any = {"student": "mlp", "training": {"epochs": 2}, "teacher": {"kind": "sage", "training": {"epochs": 2}}}
    stopped = Distiller(**options, encoder="diffusion", callbacks=[TimeBudget(1, clock=clock), Late()])
    with pytest.raises(TimeBudgetError, match="regularizer"):
        stopped.fit("digits", out=tmp_path)
    kept = {file.name for file in (tmp_path / "checkpoints").iterdir()}
    assert {"teacher.safetensors", "encodings.safetensors"} <= kept


def test_a_time_budget_without_a_folder_hints_at_out() -> None:
    distiller = Distiller(student="mlp", teacher={"kind": "sage", "training": {"epochs": 2}})
    with pytest.raises(TimeBudgetError) as caught:
        distiller.fit("digits", max_hours=1e-9)
    assert "Pass `out`" in str(caught.value.hint)

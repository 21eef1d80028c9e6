"""Progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dgl_rbm.runtime.callbacks import Callback

__all__ = ["BarProgress", "LineProgress", "ProgressDisplay", "duration", "progress_for"]

_SECONDS_BETWEEN_LINES = 5.0
# Columns from which a bar of 24 fits beside all else.
_WIDE = 100


def _shown(metrics: Mapping[str, float]) -> str:
    parts = []
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.4f}")
    if "val_accuracy" in metrics:
        parts.append(f"val {100 * metrics['val_accuracy']:.2f} %")
    return "  ".join(parts)


class ProgressDisplay(Callback):
    """Base of the displays; a context manager."""

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the display."""


class _Remaining:
    """Estimates the remaining time of a stage from the time of its steps so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.started = time.monotonic()
        # A resumed stage begins with steps that took no time.
        self.first: float | None = None

    def __call__(self, done: float, *, ends_a_step: bool) -> float | None:
        """Return the remaining seconds, None if there is no estimate yet."""
        if self.first is None:
            self.first = done - 1 if ends_a_step else float(int(done))
        gone = done - self.first
        return (time.monotonic() - self.started) * (self.total - done) / gone if gone > 0 else None


def duration(seconds: float) -> str:
    """Return a duration in a suitable unit: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LineProgress(ProgressDisplay):
    """Prints a line when a stage starts, every few seconds with its remaining time, and when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._unit = ""
        self._last = 0.0
        self._latest = ""
        self._done = 0
        self._remaining = _Remaining(1)

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self._unit, self._last, self._latest, self._done = unit, time.monotonic(), "", 0
        self._remaining = _Remaining(total)
        self._print(f"{stage}: started" + (f", up to {total} {unit}" if total > 1 else ""))

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        self._latest, self._done = _shown(metrics), done
        self._show(stage, "", self._remaining(done, ends_a_step=True))

    def on_substep(self, stage: str, done: int, total: int) -> None:
        # The last part ends the step, which has a line of its own.
        if done < total:
            within = f"{done / total:.0%} of the next"
            self._show(stage, within, self._remaining(self._done + done / total, ends_a_step=False))

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        end = "done" if finished else "stopped"
        self._print(f"{stage}: {end} in {seconds:.1f} s  {self._latest}".rstrip())

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        self._print(f"{stage}: taken from the checkpoint ({seconds:.1f} s when it ran)")

    def _show(self, stage: str, within: str, seconds: float | None) -> None:
        if time.monotonic() - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        total = self._remaining.total
        parts = [f"{self._done}/{total} {self._unit}", within] if total > 1 else [within.removesuffix(" of the next")]
        # An upper bound: early stopping may end a stage before.
        ahead = "" if seconds is None else f"at most {duration(seconds)} to go"
        self._print(f"{stage}: " + "  ".join(part for part in (*parts, self._latest, ahead) if part))

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


class _StepsColumn(ProgressColumn):
    """Shows completed steps and their total; of a single step its percentage."""

    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        if total == 1 and not task.finished:
            return Text(f"{task.completed:.0%}", style="progress.download")
        return Text(f"{int(task.completed):{len(str(total))}d}/{total}", style="progress.download")


class _StateColumn(SpinnerColumn):
    """Shows a spinner, ✓ of a finished stage, and × of one that was stopped."""

    def render(self, task: Task) -> RenderableType:
        return Text("×") if task.fields["stopped"] else super().render(task)


class _RemainingColumn(TimeRemainingColumn):
    """Shows the remaining time of a stage that is running."""

    def render(self, task: Task) -> Text:
        return Text("") if task.finished or task.fields["stopped"] else super().render(task)


class _TitledProgress(Progress):
    """Bars with a title above each column of times."""

    titles = ("", "stage", "", "steps", "elapsed", "left", "")

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.show_header = bool(table.row_count)
        for column, title in zip(table.columns, self.titles, strict=True):
            column.header = Text(title, style="dim")
        return table


class BarProgress(ProgressDisplay):
    """Shows a bar for each stage, with its latest loss, validation accuracy and remaining time."""

    def __init__(self, console: Console) -> None:
        self.progress = _TitledProgress(
            _StateColumn(finished_text="✓"),
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24 if console.width >= _WIDE else 8),
            _StepsColumn(),
            TimeElapsedColumn(),
            _RemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._latest = 0

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self._tasks[stage] = self.progress.add_task(stage, total=total, shown="", stopped=False)
        self._latest = 0

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        self._latest = done
        self.progress.update(self._tasks[stage], completed=done, shown=_shown(metrics))

    def on_substep(self, stage: str, done: int, total: int) -> None:
        self.progress.update(self._tasks[stage], completed=self._latest + done / total)

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        # Early stopping may end a stage; its bar is full all the same.
        if finished:
            done = max(self._latest, 1)
            self.progress.update(self._tasks[stage], total=done, completed=done)
        else:
            self.progress.update(self._tasks[stage], shown="stopped", stopped=True)
        self.progress.stop_task(self._tasks[stage])

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        task = self.progress.add_task(stage, total=1, shown="from the checkpoint", stopped=False)
        self.progress.update(task, completed=1)
        self.progress.stop_task(task)


def progress_for(console: Console) -> ProgressDisplay:
    """Return bars if `console` is a terminal, else lines."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)

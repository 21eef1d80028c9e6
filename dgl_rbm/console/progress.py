"""Progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dgl_rbm.training.callbacks import Callback

__all__ = ["BarProgress", "LineProgress", "ProgressDisplay", "progress_for"]

_SECONDS_BETWEEN_LINES = 5.0


def _shown(metrics: Mapping[str, float]) -> str:
    parts = []
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.4f}")
    if "val_accuracy" in metrics:
        parts.append(f"val {100 * metrics['val_accuracy']:.2f} %")
    return "  ".join(parts)


class ProgressDisplay(Callback):
    """Base of the two displays; a context manager."""

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the screen as it should stay."""


class LineProgress(ProgressDisplay):
    """One line when a stage starts, every few seconds, and when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._total = 1
        self._unit = ""
        self._last = 0.0
        self._latest = ""

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self._total, self._unit, self._last, self._latest = total, unit, time.monotonic(), ""
        self._print(f"{stage}: started" + (f", up to {total} {unit}" if total > 1 else ""))

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        self._latest = _shown(metrics)
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._print(f"{stage}: {done}/{self._total} {self._unit}  {self._latest}".rstrip())

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        end = "done" if finished else "stopped"
        self._print(f"{stage}: {end} in {seconds:.1f} s  {self._latest}".rstrip())

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        self._print(f"{stage}: taken from the checkpoint ({seconds:.1f} s when it ran)")

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


class BarProgress(ProgressDisplay):
    """A bar for each stage, with its latest loss and validation accuracy and the time it will still take."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
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
        self._tasks[stage] = self.progress.add_task(stage, total=total, shown="")
        self._latest = 0

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        self._latest = done
        self.progress.update(self._tasks[stage], completed=done, shown=_shown(metrics))

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        # A stage may end early, because it lost patience; its bar is full all the same.
        if finished:
            done = max(self._latest, 1)
            self.progress.update(self._tasks[stage], total=done, completed=done)
        self.progress.stop_task(self._tasks[stage])

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        task = self.progress.add_task(stage, total=1, shown="from the checkpoint")
        self.progress.update(task, completed=1)
        self.progress.stop_task(task)


def progress_for(console: Console) -> ProgressDisplay:
    """Return bars where `console` is a terminal, else lines."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)

"""Progress and tables of a comparison or study."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from dgl_rbm.console.progress import duration
from dgl_rbm.experiments.listener import Listener
from dgl_rbm.experiments.render import TextTable, to_rich

__all__ = ["CellProgress", "print_tables"]


class CellProgress(Listener):
    """A line for each finished cell; on a terminal, a bar below it with the remaining time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.kept = self.ended = self.failed = 0
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("cells"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[ahead]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> CellProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._bar.tasks:
            # No estimate stays on the screen after a stop.
            self._bar.update(task.id, ahead="" if error is None else "stopped")
            self._bar.stop_task(task.id)
        self._bar.stop()

    def on_start(self, total: int, kept: int) -> None:
        self.total, self.kept, self._started = total, kept, time.monotonic()
        self._task = self._bar.add_task("cells", total=total, completed=kept, ahead="")
        self._print(f"{total} cells" + (f", {kept} of them kept from before" if kept else ""))

    def on_cell(self, outcome: Any) -> None:
        self.ended += 1
        self.failed += outcome.metrics is None
        done = self.kept + self.ended
        ahead = (time.monotonic() - self._started) / self.ended * (self.total - done)
        shown = f"about {duration(ahead)} to go" if done < self.total else ""
        self._bar.update(self._task, completed=done, ahead=shown)
        if outcome.metrics is None:
            result = f"failed: {' '.join(outcome.error.split())}"
        else:
            scores = outcome.metrics["student"]
            result = f"test {100 * scores['test_accuracy']:.2f} %, val {100 * scores['val_accuracy']:.2f} %"
        line = f"[{done}/{self.total}] {outcome.cell.title}: {result} ({duration(outcome.seconds)})"
        self._print(line if self.console.is_terminal or not shown else f"{line}  {shown}")

    def on_wait(self, cells: int) -> None:
        self._print(f"waiting for {cells} cells that other processes run")

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def print_tables(console: Console, tables: Iterable[TextTable]) -> None:
    """Print tables one below the other, and a note that several of them have below the last of these."""
    listed = list(tables)
    for position, table in enumerate(listed):
        later = {note for other in listed[position + 1 :] for note in other.notes}
        console.print(to_rich(replace(table, notes=[note for note in table.notes if note not in later])))

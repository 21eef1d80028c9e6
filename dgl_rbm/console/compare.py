"""`dgl-rbm compare` and `dgl-rbm report`: what they ask for, and what they show while they run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from dgl_rbm.console.interrupt import terminated_as_by_ctrl_c
from dgl_rbm.console.progress import duration
from dgl_rbm.errors import ConfigError, TimeBudgetError
from dgl_rbm.experiments.runner import Listener

__all__ = ["CellProgress", "names_of", "print_tables", "run_comparison"]


def names_of(text: str) -> list[str]:
    """Return the names that are joined by commas in `text`."""
    return [name.strip() for name in text.split(",") if name.strip()]


class CellProgress(Listener):
    """A line for each cell that ends; on a terminal a bar below with the time that is left."""

    def __init__(self, console: Console, jobs: int) -> None:
        self.console, self.jobs = console, jobs
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

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def run_comparison(
    console: Console,
    *,
    methods: Sequence[str],
    datasets: Sequence[str],
    settings: Sequence[str],
    seeds: str,
    recipe: str,
    teacher: str | None,
    split: str | None,
    overrides: Sequence[str],
    device: str | None,
    jobs: int,
    threads: int,
    out: Path,
    max_hours: float | None,
) -> list[dict[str, Any]]:
    """Run what the options ask for; return the rows of ``results.csv``."""
    from dgl_rbm.experiments.grid import Variant, VariantMaker, expand, parse_seeds
    from dgl_rbm.experiments.page import write_tables
    from dgl_rbm.experiments.record import command_line, write_record
    from dgl_rbm.experiments.results import read_results
    from dgl_rbm.experiments.runner import run_cells
    from dgl_rbm.methods import load_method, method_names
    from dgl_rbm.methods.apply import checked_recipe
    from dgl_rbm.runtime.folders import make_folder
    from dgl_rbm.specs import resolve_teacher

    settings_of = checked_recipe(recipe)
    if teacher is not None:
        # Of a wrong one nobody would hear where no method has a teacher.
        resolve_teacher(teacher)

    def maker(name: str) -> VariantMaker:
        method = load_method(name)
        return lambda dataset, setting: Variant(name, method.values(dataset, setting, settings_of, teacher=teacher))

    methods = method_names() if list(methods) == ["all"] else list(methods)
    if not methods:
        raise ConfigError("The comparison has no methods: expected at least one.", hint="Example: --methods glnn,rbm")
    cells = expand(
        [maker(name) for name in methods],
        datasets,
        settings,
        parse_seeds(seeds),
        split=split,
        overrides=overrides,
        device=device or "auto",
    )
    command = command_line(
        {
            "methods": ",".join(methods),
            "datasets": ",".join(datasets),
            "settings": ",".join(settings),
            "seeds": seeds,
            "recipe": recipe,
            "teacher": teacher,
            "split": split,
            "set": list(overrides),
            "device": device,
            "jobs": jobs,
            "threads": threads,
            "out": out,
        }
    )
    make_folder(out, "--out")
    names = {"methods": methods, "datasets": list(datasets), "settings": list(settings)}
    progress = CellProgress(console, jobs)
    try:
        with terminated_as_by_ctrl_c(), progress:
            rows = run_cells(cells, out, jobs=jobs, threads=threads, max_hours=max_hours, listener=progress)
    except (TimeBudgetError, KeyboardInterrupt):
        # No tables of before beside the rows of now.
        if (out / "results.csv").is_file():
            write_tables(read_results(out / "results.csv"), out)
        raise
    finally:
        # With the rows that they are about, never before: a run that is killed leaves both as they were.
        if progress.total:
            write_record(out, command, names, is_new=progress.kept < progress.total)
    write_tables(rows, out)
    return rows


def print_tables(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print every table of a comparison."""
    from dgl_rbm.experiments.render import to_rich
    from dgl_rbm.experiments.tables import comparison_tables

    for table in comparison_tables(rows):
        console.print(to_rich(table))

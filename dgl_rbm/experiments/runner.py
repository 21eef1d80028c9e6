"""Runs the cells of a comparison; each finished one is kept, so that a killed comparison continues."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from dgl_rbm.errors import ConfigError, TimeBudgetError
from dgl_rbm.experiments.cells import kept_metrics
from dgl_rbm.experiments.executors.processes import Outcome, attempt, outcomes
from dgl_rbm.experiments.grid import Cell
from dgl_rbm.experiments.results import Row, failed_row, result_row, write_results
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.runtime.folders import make_folder

__all__ = ["Listener", "run_cells"]

_RESULTS = "results.csv"


class Listener:
    """Told of the cells of a comparison; every method does nothing by default."""

    def on_start(self, total: int, kept: int) -> None:
        """There are `total` cells, of which `kept` are there already."""

    def on_cell(self, outcome: Outcome) -> None:
        """A cell ended."""


def run_cells(
    cells: Sequence[Cell],
    out: str | Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    max_hours: float | None = None,
    listener: Listener | None = None,
) -> list[Row]:
    """Run every cell that is not kept in `out` yet, and write ``results.csv``.

    The same cells give the same scores whatever `jobs` is, and whether they were run at one go or not.

    Parameters
    ----------
    cells : sequence of Cell
        See `dgl_rbm.experiments.grid.expand`.
    out : path
        ``results.csv``; ``cells/``, one JSON file with all metrics for each finished cell; ``shared/``, teachers and
        encodings that cells share; ``errors/``, where cells that failed did so.
    jobs : int
        Processes that run cells at once; 0 runs them in this one, which is to have `threads` threads.
    threads : int
        Of each process. Sums depend on how they are split, so results are the same for the same number only.
    max_hours : float, optional
        Stop by a `TimeBudgetError` after this time; cells under way continue from their checkpoints later.
    listener : Listener, optional
        Told of every cell.

    Returns
    -------
    list of dict
        One row a cell, in the order of `cells`; ``status`` is ``"ok"`` or ``"failed"``, then with an ``error``. A cell
        that failed is run again next time.

    Raises
    ------
    ConfigError
        Where `jobs`, `threads` or `max_hours` is out of range, or `out` cannot be written to.
    TimeBudgetError
        Where `max_hours` are used up; the file has the rows of what is done.
    """
    out, listener = Path(out), listener or Listener()
    if jobs < 0 or threads < 1:
        raise ConfigError(f"jobs is {jobs} and threads is {threads}; expected jobs ≥ 0 and threads ≥ 1.")
    if max_hours is not None and not max_hours > 0:
        raise ConfigError(f"max_hours is {max_hours}; expected a number above 0, such as 11.5.")
    make_folder(out, "--out")
    make_folder(out / "cells", f"--out {out}: the folder of its cells,")
    deadline = float("inf") if max_hours is None else time.monotonic() + 3600 * max_hours
    rows: dict[str, Row] = {}
    for cell in cells:
        metrics = kept_metrics(out, cell)
        if metrics is not None:
            rows[cell.key] = result_row(cell, metrics)
    left = [cell for cell in cells if cell.key not in rows]
    listener.on_start(len(cells), len(rows))
    try:
        # Closed whatever happens, which ends the processes.
        with closing(_run(left, out, jobs, threads, deadline)) as under_way:
            for outcome in under_way:
                if outcome is None:
                    raise TimeBudgetError(
                        f"The {max_hours:g} hours given to the comparison were used up with {len(rows)} of "
                        f"{len(cells)} cells done.",
                        hint="Started again with the same options and folder, it continues where it stopped.",
                    )
                rows[outcome.cell.key] = _row(outcome, out)
                listener.on_cell(outcome)
    finally:
        done = [rows[cell.key] for cell in cells if cell.key in rows]
        write_results(out / _RESULTS, done)
    return done


def _row(outcome: Outcome, out: Path) -> Row:
    """Return a cell's row; where it failed, write why."""
    cell = outcome.cell
    errors = out / "errors" / f"{cell.key}.txt"
    if outcome.metrics is None:
        write_atomic(errors, f"{cell.title}\n{outcome.error}\n\n{outcome.trace}")
        return failed_row(cell, outcome.error)
    errors.unlink(missing_ok=True)
    return result_row(cell, outcome.metrics)


def _run(
    cells: Sequence[Cell], out: Path, jobs: int, threads: int, deadline: float
) -> Generator[Outcome | None, None, None]:
    if jobs == 0:
        for cell in cells:
            if time.monotonic() >= deadline:
                yield None
                return
            yield attempt(cell, out)
        return
    schedule = _Schedule(cells)
    with closing(outcomes(schedule.take, out, jobs=jobs, threads=threads, deadline=deadline)) as under_way:
        for outcome in under_way:
            if outcome is not None:
                schedule.done(outcome.cell)
            yield outcome


class _Schedule:
    """Hands out cells so that no worker waits for a teacher that another one trains, as long as there is other work."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._groups = [(cell, cell.group) for cell in cells]
        self._started: set[str] = set()
        self._ready: set[str] = set()
        self._last: dict[int, str] = {}

    def take(self, worker: int) -> Cell | None:
        """Return the next cell for a worker: of its own group, of a new one, of a finished one, else of any."""

        def rank(item: tuple[int, tuple[Cell, str]]) -> tuple[int, int]:
            i, (_, group) = item
            if group not in self._started:
                return 1, i
            if group not in self._ready:
                return 3, i
            return (0 if group == self._last.get(worker) else 2), i

        if not self._groups:
            return None
        i, (cell, group) = min(enumerate(self._groups), key=rank)
        del self._groups[i]
        self._started.add(group)
        self._last[worker] = group
        return cell

    def done(self, cell: Cell) -> None:
        """Note that the teacher of this cell is there, or failed."""
        self._ready.add(cell.group)

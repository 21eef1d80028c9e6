"""Run of a grid: what is finished is taken from disk, the rest is executed, and results.csv is written."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import cast

import pandas as pd

from dgl_rbm.errors import TimeBudgetError
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.executors import load_executor
from dgl_rbm.experiments.listener import Outcome
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.queue import CellQueue
from dgl_rbm.experiments.results import RESULTS, Row, failed_row, result_row, results_frame, write_results
from dgl_rbm.experiments.store import CellStore
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["GridRun"]


class GridRun:
    """Cells of an experiment and their results.

    The same cells give the same scores on any executor, in one go or continued, in one process or in several that
    share the folder.

    Parameters
    ----------
    cells : sequence of Cell
        See `dgl_rbm.experiments.grid.expand`.
    options : ExperimentOptions
    keeps_runs : bool
        Whether each cell's whole run is saved, its student included.

    Attributes
    ----------
    store : CellStore
    kept : int
        Number of cells that were finished before.

    Raises
    ------
    ConfigError
        If the folder cannot be created or written to.
    """

    def __init__(self, cells: Sequence[Cell], options: ExperimentOptions, *, keeps_runs: bool = False) -> None:
        self.cells, self.options = cells, options
        self.store = CellStore(options.out, keeps_runs)
        self.store.make()
        self._rows: dict[str, Row] = {}
        for cell in cells:
            metrics = self.store.metrics(cell)
            if metrics is not None:
                self._rows[cell.key] = result_row(cell, metrics)
        self.kept = len(self._rows)

    def execute(self) -> pd.DataFrame:
        """Run every cell that is not finished yet and write ``results.csv``.

        Returns
        -------
        DataFrame
            One row per cell, in the order of the cells; ``status`` is ``"ok"`` or ``"failed"``, then with an ``error``.
            A cell that failed is run again next time.

        Raises
        ------
        TimeBudgetError
            If the time budget is used up; the file then has the rows of the finished cells.
        """
        listener, rows = self.options.listener, self._rows
        listener.on_start(len(self.cells), self.kept)
        queue = CellQueue([cell for cell in self.cells if cell.key not in rows], listener.on_wait)
        hours = self.options.max_hours
        deadline = float("inf") if hours is None else time.monotonic() + 3600 * hours
        executor = load_executor(self.options.executor_name)
        outcomes = cast(Generator[Outcome | None, None, None], executor(queue, self.store, self.options, deadline))
        try:
            # Closed in any case, which ends processes of the executor.
            with closing(outcomes):
                for outcome in outcomes:
                    if outcome is None:
                        raise TimeBudgetError(
                            f"The time budget of {hours:g} hours was used up with {len(rows)} of "
                            f"{len(self.cells)} cells finished.",
                            hint="Started again with the same options and folder, it continues where it stopped.",
                        )
                    queue.done(outcome)
                    if not outcome.taken:
                        rows[outcome.cell.key] = self._row(outcome)
                        listener.on_cell(outcome)
        finally:
            results = results_frame(rows[cell.key] for cell in self.cells if cell.key in rows)
            write_results(self.options.out / RESULTS, results)
        return results

    def _row(self, outcome: Outcome) -> Row:
        """Return a cell's row; if the cell failed, write its traceback."""
        cell, errors = outcome.cell, self.store.error_file(outcome.cell)
        if outcome.metrics is None:
            write_atomic(errors, f"{cell.title}\n{outcome.error}\n\n{outcome.trace}")
            return failed_row(cell, outcome.error)
        errors.unlink(missing_ok=True)
        return result_row(cell, outcome.metrics)

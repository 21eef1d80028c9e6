"""Attempt to run one cell."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from typing import Any

from dgl_rbm.errors import DglRbmError
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.listener import Outcome
from dgl_rbm.experiments.store import CellStore
from dgl_rbm.run.files import is_finished
from dgl_rbm.run.run import Run

__all__ = ["attempt"]

_SECONDS_BETWEEN_ATTEMPTS = 0.1


def attempt(cell: Cell, store: CellStore, patience: float = 0.0) -> Outcome:
    """Run a cell in this process and keep its metrics; return errors as part of the outcome.

    A cell that another process has finished is not run again.

    Parameters
    ----------
    cell : Cell
    store : CellStore
    patience : float
        Seconds to wait while another process runs the cell.
    """
    start = time.perf_counter()
    try:
        with ExitStack() as claim:
            if not _claimed(claim, cell, store, patience):
                return Outcome(cell, None, taken=True)
            metrics = store.metrics(cell) or _run(cell, store)
    except Exception as error:
        message = error.in_one_line if isinstance(error, DglRbmError) else f"{type(error).__name__}: {error}"
        return Outcome(cell, None, message, traceback.format_exc(), time.perf_counter() - start)
    return Outcome(cell, metrics, seconds=time.perf_counter() - start)


def _claimed(claim: ExitStack, cell: Cell, store: CellStore, patience: float) -> bool:
    """Return whether `claim` holds the cell now; after `patience` seconds it stays with the other process."""
    deadline = time.monotonic() + patience
    while True:
        try:
            claim.enter_context(store.claimed(cell))
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)


def _run(cell: Cell, store: CellStore) -> dict[str, Any]:
    from dgl_rbm.run.distiller import Distiller

    folder = store.run_folder(cell)
    try:
        if store.keeps_runs and is_finished(folder):
            return store.keep(cell, Run.load(folder).metrics.to_values())
        result = Distiller.from_config(cell.config).fit(out=folder, shared=store.shared, latency_of=("student",))
        if store.keeps_runs:
            result.save(folder)
        metrics = store.keep(cell, result.metrics.to_values())
    except Exception:
        store.discard(cell)
        raise
    store.discard(cell)
    return metrics

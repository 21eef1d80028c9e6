"""Executor that runs cells in this process, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dgl_rbm.experiments.executors.attempt import attempt
from dgl_rbm.experiments.listener import Outcome
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.queue import CellQueue
from dgl_rbm.experiments.store import CellStore
from dgl_rbm.runtime.process_state import isolated

__all__ = ["execute"]


def execute(
    queue: CellQueue, store: CellStore, options: ExperimentOptions, deadline: float
) -> Iterator[Outcome | None]:
    """Yield the outcome of each cell, and None when time is up."""
    while (assignment := queue.take(0)) is not None:
        if time.monotonic() >= deadline:
            yield None
            return
        with isolated(options.threads):
            outcome = attempt(assignment.cell, store, assignment.patience)
        yield outcome

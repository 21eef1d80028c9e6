"""Executor that runs cells in several processes of this machine.

A crashed worker fails only its own cell.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from dgl_rbm.experiments.executors.attempt import attempt
from dgl_rbm.experiments.listener import Outcome
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.queue import Assignment, CellQueue
from dgl_rbm.experiments.store import CellStore

__all__ = ["execute"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def _serve(connection: Connection, store: CellStore, threads: int) -> None:
    """Run the cells that arrive, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            assignment: Assignment = connection.recv()
        except EOFError:
            return
        except Exception:
            # For example, the configuration of a component that only the script registers.
            connection.send(traceback.format_exc())
            continue
        connection.send(attempt(assignment.cell, store, assignment.patience))


def _end_with(sentinel: Any) -> None:
    """End this process when its parent ends, since nothing would receive the result."""
    wait([sentinel])
    os._exit(1)


class _Worker:
    """A running process and the assignment that it has."""

    def __init__(self, number: int, store: CellStore, threads: int) -> None:
        self.number = number
        self.assignment: Assignment | None = None
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, store, threads), daemon=True)
        with _environment(threads), _ignore_sigint():
            self.process.start()
        # So that the pipe is closed when the process ends.
        theirs.close()

    def give(self, assignment: Assignment) -> None:
        """Send a cell."""
        self.assignment = assignment
        # A process that has died is noticed when its outcome is received.
        with suppress(ConnectionError):
            self.connection.send(assignment)

    def receive(self) -> Outcome:
        """Return the outcome that has arrived; that of a process that has died is an error."""
        assert self.assignment is not None
        cell = self.assignment.cell
        try:
            outcome: Outcome | str = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            hint = "; often the system does this when memory runs out: use fewer --jobs" if code == -9 else ""
            return Outcome(cell, None, f"The process {how}{hint}.")
        self.assignment = None
        if isinstance(outcome, str):
            return Outcome(cell, None, f"The cell could not be read: {outcome.strip().splitlines()[-1]}", outcome)
        return outcome

    def end(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the environment variables of thread counts, which libraries read when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignore_sigint() -> Iterator[None]:
    """Start a process such that it ignores Ctrl-C from its first moment on, while it still loads its modules.

    Ctrl-C reaches every process of the terminal; the parent ends its workers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def execute(
    queue: CellQueue, store: CellStore, options: ExperimentOptions, deadline: float
) -> Iterator[Outcome | None]:
    """Yield the outcomes as they come, and None when time is up; closing the generator ends the processes."""
    workers: list[_Worker] = []
    try:
        for number in range(max(1, options.jobs)):
            assignment = queue.take(number)
            if assignment is not None:
                workers.append(_Worker(number, store, options.threads))
                workers[-1].give(assignment)
        while workers:
            left = deadline - time.monotonic()
            ready = wait([worker.connection for worker in workers], None if left == float("inf") else max(left, 0.0))
            if not ready:
                yield None
                return
            for worker in [worker for worker in workers if worker.connection in ready]:
                yield worker.receive()
                assignment = queue.take(worker.number)
                if assignment is None or worker.assignment is not None:
                    workers.remove(worker)
                    worker.end()
                if assignment is not None:
                    if worker not in workers:
                        # A new process in place of the one that died.
                        worker = _Worker(worker.number, store, options.threads)
                        workers.append(worker)
                    worker.give(assignment)
    finally:
        for worker in workers:
            worker.end()

"""Processes that run one cell at a time, each with its own threads; one that dies takes only its cell with it."""

from __future__ import annotations

import multiprocessing as mp
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dgl_rbm.errors import DglRbmError
from dgl_rbm.experiments.cells import keep_metrics, kept_metrics
from dgl_rbm.experiments.grid import Cell
from dgl_rbm.runtime.locks import locked

__all__ = ["Outcome", "attempt", "outcomes"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes
    ----------
    cell : Cell
    metrics : dict or None
        Of a run that succeeded.
    error : str
        Of one that did not.
    trace : str
        Where the error came from.
    seconds : float
        Wall time.
    """

    cell: Cell
    metrics: dict[str, Any] | None
    error: str = ""
    trace: str = ""
    seconds: float = 0.0


def attempt(cell: Cell, out: Path) -> Outcome:
    """Run a cell in this process and keep its metrics; what goes wrong is part of the outcome.

    Parameters
    ----------
    cell : Cell
    out : Path
        The comparison's folder: finished cells, teachers and encodings are kept under ``cells`` and ``shared``, and
        what a run that is killed needs to continue under ``partial``. A cell that another process runs in the same
        folder is waited for.
    """
    start = time.perf_counter()
    partial = out / "partial" / cell.key
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with locked(partial.with_name(f"{cell.key}.lock"), remove=True):
            metrics = kept_metrics(out, cell) or _run(cell, out, partial)
    except Exception as error:
        message = error.message if isinstance(error, DglRbmError) else f"{type(error).__name__}: {error}"
        return Outcome(cell, None, message, traceback.format_exc(), time.perf_counter() - start)
    return Outcome(cell, metrics, seconds=time.perf_counter() - start)


def _run(cell: Cell, out: Path, partial: Path) -> dict[str, Any]:
    from dgl_rbm.run.distiller import Distiller

    try:
        distiller = Distiller.from_config(cell.config)
        result = distiller.fit(out=partial, shared=out / "shared", latency_of=("student",))
        metrics = keep_metrics(out, cell, result.metrics.to_values())
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial, ignore_errors=True)
    return metrics


def _serve(connection: Connection, out: Path, threads: int) -> None:
    """Run the cells that come, as long as there is someone who sends any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            cell: Cell = connection.recv()
        except EOFError:
            return
        except Exception:
            # Such as a component that a script registers after it started the comparison.
            connection.send(traceback.format_exc())
            continue
        connection.send(attempt(cell, out))


def _end_with(sentinel: Any) -> None:
    """End this process when the one that started it ends, however it does: nobody would hear of the result."""
    wait([sentinel])
    os._exit(1)


class _Worker:
    """A process under way and the cell that it has."""

    def __init__(self, number: int, out: Path, threads: int) -> None:
        self.number = number
        self.cell: Cell | None = None
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, out, threads), daemon=True)
        with _environment(threads), _deaf_to_ctrl_c():
            self.process.start()
        # So that the pipe ends when the process does.
        theirs.close()

    def give(self, cell: Cell) -> None:
        self.cell = cell
        # One that is no more is found out when its outcome is waited for.
        with suppress(ConnectionError):
            self.connection.send(cell)

    def take(self) -> Outcome:
        """Return the outcome that has come; that of a process that is no more is an error."""
        assert self.cell is not None
        try:
            outcome: Outcome | str = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            hint = "; often the system does this when memory runs out: use fewer --jobs" if code == -9 else ""
            return Outcome(self.cell, None, f"The process {how}{hint}.")
        cell, self.cell = self.cell, None
        if isinstance(outcome, str):
            return Outcome(cell, None, f"The cell could not be read: {outcome.strip().splitlines()[-1]}", outcome)
        return outcome

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the number of threads where libraries read it: before they are loaded."""
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
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start a process that ignores Ctrl-C from its first moment on, while it still loads its modules.

    Ctrl-C reaches every process of the terminal; the one that hands out the cells decides.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def outcomes(
    take: Callable[[int], Cell | None], out: Path, *, jobs: int, threads: int, deadline: float = float("inf")
) -> Generator[Outcome | None, None, None]:
    """Run cells in processes and give their outcomes as they come; None ends them before, when time is up.

    Parameters
    ----------
    take : callable
        Returns the next cell for a worker, by its number; None where there is none left.
    out : Path
        See `attempt`.
    jobs, threads : int
        How many processes there are at once, and how many threads each of them has.
    deadline : float
        Of the clock `time.monotonic`.
    """
    workers: list[_Worker] = []
    try:
        for number in range(jobs):
            cell = take(number)
            if cell is not None:
                workers.append(_Worker(number, out, threads))
                workers[-1].give(cell)
        while workers:
            left = deadline - time.monotonic()
            ready = wait([worker.connection for worker in workers], None if left == float("inf") else max(left, 0.0))
            if not ready:
                yield None
                return
            for worker in [worker for worker in workers if worker.connection in ready]:
                yield worker.take()
                cell = take(worker.number)
                if cell is None or worker.cell is not None:
                    workers.remove(worker)
                    worker.end()
                if cell is not None:
                    if worker not in workers:
                        # The one before it died.
                        worker = _Worker(worker.number, out, threads)
                        workers.append(worker)
                    worker.give(cell)
    finally:
        for worker in workers:
            worker.end()

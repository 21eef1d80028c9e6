"""Executors, which run the cells of an experiment.

An executor is a function ``execute(queue, store, options, deadline)``. It takes cells from a
`dgl_rbm.experiments.queue.CellQueue`, calls `dgl_rbm.experiments.executors.attempt.attempt` for each, in whatever place
it stands for, and yields the outcomes as they come; when `deadline`, of the clock `time.monotonic`, has passed, it
yields None and ends. To add one, write a module with such a function and name it in `EXECUTORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from dgl_rbm.errors import ConfigError, UnknownNameError

__all__ = ["EXECUTORS", "load_executor"]

# Name to module. Modules are loaded on use, since the command line lists the names.
EXECUTORS = {
    "inline": "dgl_rbm.experiments.executors.inline",
    "processes": "dgl_rbm.experiments.executors.processes",
}


def load_executor(executor: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of an executor given by its name; return a function as it is.

    Raises
    ------
    UnknownNameError
        If there is no executor of that name.
    ConfigError
        If `executor` is neither a name nor a function.
    """
    if callable(executor):
        return executor
    if not isinstance(executor, str):
        raise ConfigError(f"executor is {executor!r}; expected a name or a function.")
    if executor not in EXECUTORS:
        raise UnknownNameError("executor", executor, EXECUTORS)
    execute: Callable[..., Any] = import_module(EXECUTORS[executor]).execute
    return execute

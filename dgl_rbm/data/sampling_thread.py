"""The one thread in which DGL draws random numbers.

DGL has a generator for each thread, whose numbers depend on how many threads had one before. What this thread draws is
the same whichever thread of the process waits for it, and with any number of threads of OpenMP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["SamplingThread"]

T = TypeVar("T")
_END = object()


class SamplingThread:
    """Thread that runs functions one after the other.

    Parameters
    ----------
    seed : callable
        Seeds DGL's generator; called at once, so that this thread's generator is the first of the process.
    """

    def __init__(self, seed: Callable[[int], Any]) -> None:
        self._seed = seed
        self._start()
        self.seed(0)
        if hasattr(os, "register_at_fork"):
            # A forked process has no other threads than the one that forked it.
            os.register_at_fork(after_in_child=self._start)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return ``function(*arguments)``, computed in the thread."""
        return self._executor.submit(function, *arguments).result()

    def seed(self, seed: int) -> None:
        """Seed DGL's generator of the thread."""
        self.run(self._seed, seed)

    def iterate(self, values: Iterable[T]) -> Iterator[T]:
        """Start to iterate; each value is computed in the thread."""
        iterator = self.run(iter, values)
        return iter(lambda: self.run(next, iterator, _END), _END)  # type: ignore[arg-type]

    def _start(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dgl-rbm-sampling", initializer=self._initialize)

    def _initialize(self) -> None:
        # torch sets the number of threads at a thread's first operation.
        torch.get_num_threads()
        threadpool_limits(1, user_api="openmp")

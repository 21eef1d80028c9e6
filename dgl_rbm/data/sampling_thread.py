"""The one thread in which DGL draws random numbers.

DGL has a generator for each thread, whose numbers depend on how many threads had one before. What this thread draws is
the same whichever thread of the process waits for it, and with any number of threads of OpenMP.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["SamplingThread"]

T = TypeVar("T")
_END = object()


class SamplingThread:
    """Thread that runs functions one after the other; it starts with the first of them.

    Parameters
    ----------
    seed : callable
        Seeds DGL's generator.
    """

    def __init__(self, seed: Callable[[int], Any]) -> None:
        self._seed = seed
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def start(self) -> None:
        """Start the thread and seed its generator, if that was not done yet.

        Called before DGL is seeded in any other thread of the process: this thread's generator is the first one, in
        every process alike.
        """
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    1, thread_name_prefix="dgl-rbm-sampling", initializer=self._initialize
                )
                self._executor.submit(self._seed, 0).result()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return ``function(*arguments)``, computed in the thread."""
        self.start()
        assert self._executor is not None, "it was started"
        return self._executor.submit(function, *arguments).result()

    def seed(self, seed: int) -> None:
        """Seed DGL's generator of the thread."""
        self.run(self._seed, seed)

    def iterate(self, values: Iterable[T]) -> Iterator[T]:
        """Start to iterate; each value is computed in the thread."""
        iterator = self.run(iter, values)
        return iter(lambda: self.run(next, iterator, _END), _END)  # type: ignore[arg-type]

    def _forget(self) -> None:
        # A forked process has no other threads than the one that forked it.
        self._executor, self._lock = None, threading.Lock()

    def _initialize(self) -> None:
        # torch sets the number of threads at a thread's first operation.
        torch.get_num_threads()
        threadpool_limits(1, user_api="openmp")

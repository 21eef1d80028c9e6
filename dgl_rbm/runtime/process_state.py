"""State of the process during a run: random generators, default dtype and number of threads, put back afterwards.

PyTorch, NumPy and `random` have one generator for the whole process, from which dropout and initial weights are drawn.
`isolated` lends the state to one thread at a time, and `as_caller` returns it for a while, so that runs in several
threads have the results of runs one after the other.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch import Tensor

from dgl_rbm.precision import autocast_enabled

__all__ = ["Lease", "ProcessState", "as_caller", "before_dgl_is_seeded", "inference", "isolated", "plain_modes"]

F = TypeVar("F", bound=Callable[..., Any])

# Seconds of a callback after which it is taken to wait for another thread.
_PATIENCE = 0.5


# Called before DGL's generator is seeded in the thread of a run; set by the module that imports DGL.
before_dgl_is_seeded: list[Callable[[], None]] = []


@dataclass(frozen=True)
class ProcessState:
    """What all threads of a process share.

    Attributes
    ----------
    torch_states : tuple of Tensor
        Of torch's generators: the CPU's, then those of the GPUs.
    numpy_generator : numpy.random.BitGenerator
        The generator itself, which takes a hundredth of the time of its state.
    python_state : tuple
        Of the module `random`.
    dtype : torch.dtype
        Torch's default for floating-point tensors.
    threads : int
        Number of threads of one operation.
    """

    torch_states: tuple[Tensor, ...]
    numpy_generator: Any
    python_state: Any
    dtype: torch.dtype
    threads: int

    @classmethod
    def current(cls) -> ProcessState:
        """Return the present state."""
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()
        return cls(
            torch_states=(torch.get_rng_state(), *on_gpus),
            numpy_generator=get_bit_generator(),
            python_state=random.getstate(),
            dtype=torch.get_default_dtype(),
            threads=torch.get_num_threads(),
        )

    def install(self) -> None:
        """Make this the present state."""
        on_cpu, *on_gpus = self.torch_states
        torch.set_rng_state(on_cpu)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
        set_bit_generator(self.numpy_generator)
        random.setstate(self.python_state)
        if torch.get_default_dtype() != self.dtype:
            torch.set_default_dtype(self.dtype)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


@dataclass
class Lease:
    """A loan of the process's state to a thread.

    Attributes
    ----------
    caller : ProcessState or None
        What is put back at the end; None before the thread's turn.
    held : bool
        Whether the state is this thread's now; false within `as_caller`.
    thread : int
        Identity of the thread.
    lent_at : float or None
        Within `as_caller`: when other threads may have their turn.
    dgl_seed : int or None
        Seed of DGL's generator at the end; None if it was not seeded.
    """

    caller: ProcessState | None = None
    held: bool = False
    thread: int = field(default_factory=threading.get_ident)
    lent_at: float | None = None
    dgl_seed: int | None = None

    def seed_dgl(self, seed: int) -> None:
        """Seed DGL's generator, if DGL is loaded; before the first time, draw the seed that it gets at the end."""
        if "dgl" in sys.modules:
            if self.dgl_seed is None:
                for prepare in before_dgl_is_seeded:
                    prepare()
                self.dgl_seed = int(sys.modules["dgl"].random.choice(2**31 - 1, 1))
            sys.modules["dgl"].seed(seed)

    def begin(self) -> None:
        """Remember the caller's state."""
        self.caller, self.held = ProcessState.current(), True

    def end(self) -> None:
        """Put the caller's state back."""
        if self.held and self.caller is not None:
            self.caller.install()
        if self.dgl_seed is not None:
            sys.modules["dgl"].seed(self.dgl_seed)


class _Turns:
    """Decides which thread has its turn."""

    def __init__(self, holder: Lease | None = None) -> None:
        self._holder = holder
        self._condition = threading.Condition()

    def take(self, lease: Lease) -> None:
        """Wait until the turn is that of `lease`."""
        with self._condition:
            while (holder := self._holder) is not None and holder.thread != lease.thread:
                # A callback that lasts may be waiting for a run in this thread.
                wait = None if holder.lent_at is None else holder.lent_at - time.monotonic()
                if wait is not None and wait <= 0:
                    break
                self._condition.wait(wait)
            self._holder, lease.lent_at = lease, None

    def lend(self, lease: Lease, seconds: float) -> None:
        """Allow other threads to take the turn after some time."""
        with self._condition:
            lease.lent_at = time.monotonic() + seconds
            self._condition.notify_all()

    def end(self, lease: Lease) -> None:
        """End the turn, if it is still that of `lease`."""
        with self._condition:
            if self._holder is lease:
                self._holder = None
                self._condition.notify_all()


class _Current(threading.local):
    lease: Lease | None = None


_turns = _Turns()
_current = _Current()


def _after_fork() -> None:
    # The threads that wait and the one that has its turn are not in the forked process, unless it forked.
    global _turns
    _turns = _Turns(_current.lease)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def isolated(threads: int | None = None) -> Iterator[Lease]:
    """Run with a state of the process of its own, which ends with the ``with`` block; other threads wait.

    Inside, the default dtype is float32, gradients are recorded, and autocast, inference mode and the default device
    are off. Afterwards random generators, default dtype and number of threads are those of before. DGL's generator,
    which cannot be read, is seeded by a number that was drawn from it, so that a caller who has seeded it gets the same
    numbers in every run.

    Parameters
    ----------
    threads : int, optional
        Threads of one operation; by default those that the process has set in any thread.
    """
    outer = _current.lease
    if outer is not None and outer.held:
        with _thread_count(threads):
            yield outer
        return
    lease = Lease()
    try:
        _turns.take(lease)
        lease.begin()
        _current.lease = lease
        set_bit_generator(np.random.MT19937(0))
        torch.set_default_dtype(torch.float32)
        with _thread_count(threads or _threads_of_process()), plain_modes():
            yield lease
    finally:
        _current.lease = outer
        try:
            lease.end()
        finally:
            _turns.end(lease)


@contextmanager
def as_caller(patience: float = _PATIENCE) -> Iterator[None]:
    """Put the caller's state back within the ``with`` block; outside of `isolated` do nothing.

    For callbacks, which may use random numbers and run or wait for other runs.

    Parameters
    ----------
    patience : float
        Seconds after which other threads may have their turn.
    """
    lease = _current.lease
    if lease is None or not lease.held or lease.caller is None:
        yield
        return
    own = ProcessState.current()
    lease.caller.install()
    lease.held = False
    _turns.lend(lease, patience)
    try:
        yield
    finally:
        # If this is interrupted, the state remains the caller's until the end of `isolated`.
        _turns.take(lease)
        lease.begin()
        own.install()


@contextmanager
def plain_modes(*, gradients: bool = True) -> Iterator[None]:
    """Switch off the modes of this thread that change results: autocast, inference mode and a default device.

    Parameters
    ----------
    gradients : bool
        Whether gradients are recorded.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad() if gradients else torch.no_grad())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            if autocast_enabled(torch.device(device)):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def inference(function: F) -> F:
    """Run a function in `plain_modes` without gradients; it waits for no other thread."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with plain_modes(gradients=False):
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]


@contextmanager
def _thread_count(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _threads_of_process() -> int:
    """Return the number of threads that a new thread has.

    An older one may have another number, that of its first operation.
    """
    found: list[int] = []
    fresh = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    return found[0]

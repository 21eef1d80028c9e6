"""Ctrl-C between two steps: the first one lets the current step finish and write its checkpoint."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dgl_rbm.runtime.callbacks import PATIENCE_WITHIN_A_STEP, Callback

__all__ = ["sigterm_as_sigint", "stop_between_steps"]


class _StopAtStep(Callback):
    def __init__(self) -> None:
        self.requested = False
        self.stepping = False
        self.requested_at = 0.0
        self.total = 0

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        # A finished stage is kept; the run stops at the start of the next one.
        if self.requested and done < self.total:
            raise KeyboardInterrupt

    def on_substep(self, stage: str, done: int, total: int) -> None:
        if self.requested and time.monotonic() - self.requested_at >= PATIENCE_WITHIN_A_STEP:
            raise KeyboardInterrupt

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.stepping, self.total = total > 1, total

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        self.stepping = False


@contextmanager
def stop_between_steps(announce: Callable[[], None]) -> Iterator[Callback]:
    """Raise `KeyboardInterrupt` at the next step after the first SIGINT or SIGTERM.

    A step that takes too long is abandoned. A stage without steps, such as reading data, stops at once.

    Parameters
    ----------
    announce : callable
        Called at the first signal, to print a message.

    Yields
    ------
    Callback
        Callback for the run. A second signal stops at once.
    """
    callback = _StopAtStep()

    def on_signal(number: int, frame: Any) -> None:
        if callback.requested or not callback.stepping:
            raise KeyboardInterrupt
        callback.requested, callback.requested_at = True, time.monotonic()
        announce()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield callback
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on SIGTERM, which batch systems send."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Ctrl-C between two steps: the first one lets the step end and its checkpoint be written."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dgl_rbm.runtime.callbacks import PATIENCE_WITHIN_A_STEP, Callback

__all__ = ["stop_between_steps", "terminated_as_by_ctrl_c"]


class _StopAtStep(Callback):
    def __init__(self) -> None:
        self.requested = False
        self.stepping = False
        self.requested_at = 0.0
        self.total = 0

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        # A stage whose last step is done is kept whole; the run stops where the next one starts.
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
    """Turn the first Ctrl-C, or a request to terminate, into a `KeyboardInterrupt` at the next step.

    A step that takes much longer is given up. In a stage without steps, such as the reading of data, it stops at once.

    Parameters
    ----------
    announce : callable
        Called at the first request, to say what happens now.

    Yields
    ------
    Callback
        To be among the run's callbacks. A second Ctrl-C stops at once.
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
def terminated_as_by_ctrl_c() -> Iterator[None]:
    """Let a request to terminate, as batch systems send it, do at once what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Ctrl-C while modules are imported, which can take seconds: exit without a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "quiet_imports"]

INTERRUPTED = 130
_IMPORTS = "<frozen importlib._bootstrap>"
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Within the ``with`` block, exit at once on a SIGINT during an import; elsewhere raise `KeyboardInterrupt`."""
    try:
        before = signal.signal(signal.SIGINT, _on_interrupt)
    except ValueError:
        # Signals belong to the main thread.
        yield
        return
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _on_interrupt:
            signal.signal(signal.SIGINT, before)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            # Extension modules turn an exception during their import into another one.
            os.write(2, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}Stopped.\n".encode())
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt

"""Locks between processes: files that one of them holds at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["locked"]

_SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def locked(path: Path, *, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Hold the file `path` alone.

    The operating system gives back what a process holds that dies. On a file system without locks everybody comes in.

    Parameters
    ----------
    path : Path
        Made where it is not there, in a folder that is.
    wait : bool
        Whether to wait until no other process holds it.
    remove : bool
        Whether the file is removed at the end.

    Raises
    ------
    BlockingIOError
        Where another process holds it and this one is not to wait.
    """
    while True:
        with path.open("wb") as file:
            _lock(file, wait)
            # Whoever held it before may have removed it, and a third process made it anew.
            if not _lies_at(file, path):
                continue
            try:
                yield
            finally:
                if remove:
                    with suppress(OSError):
                        path.unlink()
            return


def _lies_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes], wait: bool) -> None:
    """Hold `file` until it is closed; without waiting in the system call, so that Ctrl-C is heard."""
    while True:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            if not wait:
                raise BlockingIOError(f"another process holds '{file.name}'") from None
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except OSError:
            return

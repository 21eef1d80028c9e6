"""Locks between processes, held on files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dgl_rbm.runtime.process_state import as_caller

__all__ = ["locked"]

_SECONDS_BETWEEN_ATTEMPTS = 0.1
# Raised by file systems without locks, and by network file systems whose lock service does not run.
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def locked(path: Path, *, wait: bool = True, remove: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path` within the ``with`` block.

    The operating system releases the lock of a process that dies. On a file system without locks, every process
    enters at once: what the lock guards must lead to the same result if two processes compute it.

    Parameters
    ----------
    path : Path
        Created if it is missing.
    wait : bool
        Whether to wait until no other process holds the lock.
    remove : bool
        Whether to remove the file at the end.

    Yields
    ------
    bool
        Whether the lock is held, which it is not on a file system without locks.

    Raises
    ------
    BlockingIOError
        If `wait` is False and another process holds the lock.
    """
    # The library's substitute on file systems without locks, a file that exists while the lock is held, would outlive
    # a killed process.
    lock = FileLock(
        path, poll_interval=_SECONDS_BETWEEN_ATTEMPTS, fallback_to_soft=False, preserve_lock_file=not remove
    )
    try:
        # The other holder may be a run in another thread, which needs its turn to finish.
        with as_caller(patience=0) if wait else nullcontext():
            lock.acquire(blocking=wait)
    except Timeout:
        raise BlockingIOError(f"another process holds '{path}'") from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        # Removed while the lock is held: a process that waits for it notices, and locks the next file of this name.
        if remove:
            with suppress(OSError):
                path.unlink()
        lock.release()

"""Results that runs share: the first run that needs a teacher or an encoding computes it, the others read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgl_rbm.runtime.checkpoint import CheckpointStore, NullCheckpointStore, remove_temporary_files
from dgl_rbm.runtime.locks import locked

__all__ = ["NullSharedParts", "SharedParts"]


class SharedParts:
    """A folder of finished parts, each found by a key of all that it depends on.

    Parameters
    ----------
    folder : Path
        Made when the first part is written.
    """

    enabled = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def reserved(self, name: str, key: str) -> Iterator[CheckpointStore]:
        """Yield the store of a part, exclusively: a second process waits until the first is done.

        If files cannot be locked, two processes may do the same work, to the same result.

        Parameters
        ----------
        name : str
            Of the part.
        key : str
            Digest of everything that it depends on; ``""`` for a part that is not shared.
        """
        if not key:
            yield NullCheckpointStore()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        store = CheckpointStore(self.folder / f"{name}-{key[:24]}", key)
        # A finished part needs no reservation: it does not change any more.
        if store.load(name) is not None:
            yield store
            return
        with locked(self.folder / f"{name}-{key[:24]}.lock") as held:
            if held:
                remove_temporary_files(store.folder)
            yield store


class NullSharedParts(SharedParts):
    """Shares nothing."""

    enabled = False

    def __init__(self) -> None:
        super().__init__(Path())

    @contextmanager
    def reserved(self, name: str, key: str) -> Iterator[CheckpointStore]:
        """Yield a store that keeps nothing."""
        yield NullCheckpointStore()

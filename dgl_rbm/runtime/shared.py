"""Parts of runs that other runs take: a teacher or encodings, made once by whoever needs them first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dgl_rbm.runtime.checkpoint import CheckpointStore, NullCheckpointStore
from dgl_rbm.runtime.locks import locked

__all__ = ["NullSharedParts", "SharedParts"]


class SharedParts:
    """A folder of finished parts by what they depend on.

    Parameters
    ----------
    folder : Path
        Made when the first part is written.
    keys : mapping of str to str
        Name of a part to the digest it is found by; see `dgl_rbm.run.fingerprint.part_keys`. Parts of other names
        are not shared.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self.folder, self.keys = folder, dict(keys)

    @contextmanager
    def reserved(self, name: str) -> Iterator[CheckpointStore]:
        """Give the store of the part `name`, to nobody else at once: a second process waits until the first is done.

        Where files cannot be locked, two processes may do the same work, to the same result.
        """
        key = self.keys.get(name)
        if key is None:
            yield NullCheckpointStore()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        store = CheckpointStore(self.folder / f"{name}-{key[:24]}", key)
        # One that is there needs no reservation, and does not change any more.
        if store.load(name) is not None:
            yield store
            return
        with locked(self.folder / f"{name}-{key[:24]}.lock"):
            yield store


class NullSharedParts(SharedParts):
    """Shares nothing."""

    def __init__(self) -> None:
        super().__init__(Path(), {})

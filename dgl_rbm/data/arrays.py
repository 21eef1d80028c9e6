"""Cache of arrays on disk: folders that are written atomically and read by memory mapping.

A folder contains one ``.npy`` file per array and a ``key.json`` with the options that the arrays were computed from
and the checksums of the files. If the key differs or a file is damaged, the arrays are computed again. Several
processes may write the same folder at once: each writes its own copy, and the first complete one is kept.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy
from dgl_rbm.runtime.locks import locked

__all__ = ["MemoryMap", "kept_arrays", "maps", "read_arrays"]

MemoryMap = Literal["auto", "always", "never"]

_KEY = "key.json"
_LOCK = ".lock"
_SECONDS_TO_LOCK = 60.0
# With memory_map: auto, features of at least this many bytes are kept in a file.
_MAPPED_FROM = 256 * 2**20
# Each checksum covers a part of this many bytes. Files up to 4 GiB are compared in full, longer ones in as many evenly
# spaced parts: opening a file larger than memory must not read all of it.
_PART = 16 * 2**20
_MOST_PARTS = 256
# Attempts to read a folder that another process is replacing, and the seconds between them.
_ATTEMPTS = 5
_PAUSE = 0.05


def maps(option: MemoryMap, nbytes: int) -> bool:
    """Whether features of `nbytes` bytes are kept in a file and mapped from it."""
    return option == "always" or (option == "auto" and nbytes >= _MAPPED_FROM)


def kept_arrays(
    folder: Path, key: Mapping[str, Any], names: Collection[str], make: Callable[[Path], None]
) -> dict[str, np.ndarray]:
    """Return the arrays of `folder` by name, mapped copy-on-write; compute them if they are missing or damaged.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    key : mapping
        Options that the arrays depend on, as JSON values.
    names : collection of str
        Names of the arrays.
    make : callable
        Writes ``NAME.npy`` for each name into the folder passed to it; called only if `folder` does not contain
        undamaged arrays of this key.

    Raises
    ------
    OSError
        If `folder` cannot be written.
    """
    arrays = read_arrays(folder, key, names)
    if arrays is not None:
        return arrays
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    # A folder that is moved aside is removed with the temporary one.
    with (
        tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
        ) as temporary,
        locked(Path(temporary) / _LOCK),
    ):
        finished = Path(temporary) / folder.name
        finished.mkdir()
        make(finished)
        about = {"key": dict(key), "arrays": {name: _checksums(finished / f"{name}.npy") for name in names}}
        (finished / _KEY).write_text(json.dumps(about), encoding="utf-8")
        for path in (*finished.iterdir(), finished):
            _flush_to_disk(path)
        return _publish(finished, folder, key, names)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary folders of killed processes that computed the arrays of `folder`."""
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.????????"):
        # A living process locks its folder as soon as it has created it.
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _SECONDS_TO_LOCK:
                with locked(path / _LOCK, wait=False) as held:
                    if held:
                        shutil.rmtree(path)


def read_arrays(folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of `folder`, mapped copy-on-write; None if they are missing, damaged or of another key."""
    for attempt in range(_ATTEMPTS):
        try:
            return _read(folder, key, names)
        except OSError as error:
            # A folder that lacks a file may be in replacement; without a key there is no folder to wait for.
            if attempt == _ATTEMPTS - 1 or str(error.filename) == str(folder / _KEY):
                return None
        except NPY_DAMAGE:
            return None
        time.sleep(_PAUSE)
    return None


def _read(folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray] | None:
    about = json.loads((folder / _KEY).read_text(encoding="utf-8"))
    # Compared as JSON, which has neither tuples nor paths.
    if about["key"] != json.loads(json.dumps(dict(key))) or set(about["arrays"]) != set(names):
        return None
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        # Mapped from the open file, because the name may refer to another file by then.
        with (folder / f"{name}.npy").open("rb") as file:
            if not _is_undamaged(file, about["arrays"][name]):
                return None
            file.seek(0)
            arrays[name] = map_npy(file)
    return arrays


def _publish(finished: Path, folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray]:
    """Move a finished folder to its place, unless another process was first; return the arrays of that place."""
    # Mapped before the move, so that a later replacement has no effect.
    ours = _read(finished, key, names)
    if ours is None:
        raise OSError(f"the arrays written to '{finished}' cannot be read back")
    for attempt in range(_ATTEMPTS):
        theirs = read_arrays(folder, key, names)
        if theirs is not None:
            return theirs
        if folder.is_dir():
            # Another process may move it at the same time.
            with suppress(FileNotFoundError):
                os.replace(folder, finished.with_name(f"aside-{attempt}"))
        try:
            os.replace(finished, folder)
        except OSError as error:
            # Another process was faster.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue
        _flush_to_disk(folder.parent)
        return ours
    raise OSError(f"'{folder}' is replaced by other processes over and over")


def _checksums(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        parts = [zlib.crc32(part) for part in iter(lambda: file.read(_PART), b"")]
    return {"size": path.stat().st_size, "crc32": parts}


def _is_undamaged(file: BinaryIO, about: Mapping[str, Any]) -> bool:
    expected = about["crc32"]
    if os.fstat(file.fileno()).st_size != about["size"] or len(expected) != -(-about["size"] // _PART):
        return False
    compared = np.linspace(0, len(expected) - 1, min(len(expected), _MOST_PARTS)).round().astype(int)
    for part in compared.tolist():
        file.seek(part * _PART)
        if zlib.crc32(file.read(_PART)) != expected[part]:
            return False
    return True


def _flush_to_disk(path: Path) -> None:
    """Flush a file, or the entries of a folder if the system supports that, to disk."""
    if path.is_dir():
        with suppress(OSError):
            _synchronize(path, os.O_RDONLY)
    else:
        _synchronize(path, os.O_RDWR)


def _synchronize(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Folders of arrays that were computed once: written whole or not at all, and read without loading them.

Such a folder holds one ``.npy`` file per array and a ``key.json``, which says what the arrays were computed from, and
the checksums of their files. It is made anew where the key is another or a file is damaged. Several processes may make
the same one at once: each writes a folder of its own, and the first that is whole is kept.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy

__all__ = ["MemoryMap", "kept_arrays", "maps", "read_arrays"]

MemoryMap = Literal["auto", "always", "never"]

_KEY = "key.json"
# Features of this many bytes and more lie in a file unless an option says otherwise.
_MAPPED_FROM = 256 * 2**20
# A file's checksums are of parts of so many bytes. All are compared up to 4 GiB, and of longer files as many parts,
# evenly spaced, so that opening one that is larger than memory does not mean reading it.
_PART = 16 * 2**20
_MOST_PARTS = 256
# Looks at a folder that another process is replacing, and the seconds between them.
_LOOKS = 5
_PAUSE = 0.05


def maps(option: MemoryMap, nbytes: int) -> bool:
    """Whether features of so many bytes are to be kept in a file and read from there."""
    return option == "always" or (option == "auto" and nbytes >= _MAPPED_FROM)


def kept_arrays(
    folder: Path, key: Mapping[str, Any], names: Collection[str], make: Callable[[Path], None]
) -> dict[str, np.ndarray]:
    """Return the arrays of `folder` by name, mapped copy-on-write; make them first where need be.

    Parameters
    ----------
    folder : Path
        Need not exist.
    key : mapping
        What the arrays depend on, as JSON can hold it.
    names : collection of str
        Of the arrays.
    make : callable
        Writes ``NAME.npy`` of each name into the folder that it is given; called only where `folder` holds no whole
        arrays of this key.

    Raises
    ------
    OSError
        Where `folder` cannot be written.
    """
    arrays = read_arrays(folder, key, names)
    if arrays is not None:
        return arrays
    folder.parent.mkdir(parents=True, exist_ok=True)
    # What is put aside goes with the temporary folder.
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        finished = Path(temporary) / folder.name
        finished.mkdir()
        make(finished)
        about = {"key": dict(key), "arrays": {name: _checksums(finished / f"{name}.npy") for name in names}}
        (finished / _KEY).write_text(json.dumps(about), encoding="utf-8")
        for path in (*finished.iterdir(), finished):
            _reach_the_disk(path)
        return _publish(finished, folder, key, names)


def read_arrays(folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of `folder`, mapped copy-on-write; None where it holds no whole ones of this key and names."""
    for look in range(_LOOKS):
        try:
            return _read(folder, key, names)
        except OSError as error:
            # One that lacks a file may be about to be replaced; without a folder there is nothing to wait for.
            if look == _LOOKS - 1 or str(error.filename) == str(folder / _KEY):
                return None
        except NPY_DAMAGE:
            return None
        time.sleep(_PAUSE)
    return None


def _read(folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray] | None:
    about = json.loads((folder / _KEY).read_text(encoding="utf-8"))
    # Through JSON, which knows neither tuples nor paths.
    if about["key"] != json.loads(json.dumps(dict(key))) or set(about["arrays"]) != set(names):
        return None
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        # Mapped from the file that was checked, whatever the name stands for by then.
        with (folder / f"{name}.npy").open("rb") as file:
            if not _is_whole(file, about["arrays"][name]):
                return None
            file.seek(0)
            arrays[name] = map_npy(file)
    return arrays


def _publish(finished: Path, folder: Path, key: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray]:
    """Move a finished folder to its place, unless another process put a whole one there; return what is there."""
    # Mapped before they are moved: what becomes of their names later is then of no matter.
    ours = _read(finished, key, names)
    if ours is None:
        raise OSError(f"the arrays written to '{finished}' cannot be read back")
    for look in range(_LOOKS):
        theirs = read_arrays(folder, key, names)
        if theirs is not None:
            return theirs
        if folder.is_dir():
            # Another process may do the same at this moment.
            with suppress(FileNotFoundError):
                os.replace(folder, finished.with_name(f"aside-{look}"))
        try:
            os.replace(finished, folder)
        except OSError as error:
            # Another one came between.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue
        _reach_the_disk(folder.parent)
        return ours
    raise OSError(f"'{folder}' is being replaced by other processes again and again")


def _checksums(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        parts = [zlib.crc32(part) for part in iter(lambda: file.read(_PART), b"")]
    return {"size": path.stat().st_size, "crc32": parts}


def _is_whole(file: BinaryIO, about: Mapping[str, Any]) -> bool:
    expected = about["crc32"]
    if os.fstat(file.fileno()).st_size != about["size"] or len(expected) != -(-about["size"] // _PART):
        return False
    compared = np.linspace(0, len(expected) - 1, min(len(expected), _MOST_PARTS)).round().astype(int)
    for part in compared.tolist():
        file.seek(part * _PART)
        if zlib.crc32(file.read(_PART)) != expected[part]:
            return False
    return True


def _reach_the_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a loss of power; folders where the system can."""
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

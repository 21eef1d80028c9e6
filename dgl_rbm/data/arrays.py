"""Folders of arrays that were computed once: written whole or not at all, and read without loading them.

Such a folder holds one ``.npy`` file per array and a ``key.json``, which says what the arrays were computed from. It
is made anew where the key is another or a file is damaged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dgl_rbm.data.files import whole_or_nothing

__all__ = ["MemoryMap", "kept_arrays", "maps", "read_arrays"]

MemoryMap = Literal["auto", "always", "never"]

_KEY = "key.json"
# Features of this many bytes and more lie in a file unless an option says otherwise.
_MAPPED_FROM = 256 * 2**20


def maps(option: MemoryMap, nbytes: int) -> bool:
    """Whether features of so many bytes are to be kept in a file and read from there."""
    return option == "always" or (option == "auto" and nbytes >= _MAPPED_FROM)


def kept_arrays(folder: Path, key: Mapping[str, Any], make: Callable[[Path], None]) -> dict[str, np.ndarray]:
    """Return the arrays of `folder` by name, mapped into memory and read-only; make them first where need be.

    Parameters
    ----------
    folder : Path
        Need not exist.
    key : mapping
        What the arrays depend on, as JSON can hold it.
    make : callable
        Writes ``.npy`` files into the folder that it is given; called only where `folder` holds no whole arrays of
        this key.

    Raises
    ------
    OSError
        Where `folder` cannot be written.
    """
    arrays = read_arrays(folder, key)
    if arrays is None:
        with whole_or_nothing(folder) as partial:
            partial.mkdir()
            make(partial)
            shapes = {path.stem: _described(np.load(path, mmap_mode="r")) for path in sorted(partial.glob("*.npy"))}
            (partial / _KEY).write_text(json.dumps({"key": dict(key), "arrays": shapes}), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
        arrays = read_arrays(folder, key)
        if arrays is None:
            raise OSError(f"the arrays written to '{folder}' cannot be read back")
    return arrays


def _described(array: np.ndarray) -> list[Any]:
    return [str(array.dtype), list(array.shape)]


def read_arrays(folder: Path, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Return the arrays of `folder`, mapped and read-only; None where it holds no whole ones of this key."""
    try:
        about = json.loads((folder / _KEY).read_text(encoding="utf-8"))
        # Through JSON, which knows neither tuples nor paths.
        if about["key"] != json.loads(json.dumps(dict(key))):
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in about["arrays"]}
        whole = all(_described(array) == about["arrays"][name] for name, array in arrays.items())
    except (OSError, ValueError, LookupError, TypeError, EOFError):
        return None
    return arrays if whole else None

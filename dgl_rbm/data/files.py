"""Files of datasets: folders, downloads, and features mapped from files."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import numpy as np

from dgl_rbm.errors import DataError, DatasetNotFoundError
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy

__all__ = [
    "DAMAGE",
    "DATA_VARIABLE",
    "atomic_path",
    "cache_folder",
    "data_folder",
    "download",
    "download_folder",
    "map_features",
]

DATA_VARIABLE = "DGL_RBM_DATA"

# Raised by the readers for truncated or foreign files, depending on the format and the place of the damage.
DAMAGE = (*NPY_DAMAGE, ImportError, pickle.UnpicklingError)

# First bytes of zip archives, .npz files among them.
_ARCHIVE = b"PK\x03\x04"

# Seconds without a response, or without a byte, after which a download fails.
_TIMEOUT = 20


def data_folder() -> Path | None:
    """Return the folder set by ``DGL_RBM_DATA``, or None if it is not set.

    Raises
    ------
    DatasetNotFoundError
        If it is not a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"{DATA_VARIABLE} is '{named}', which is not a folder.", hint="Set it to a folder of datasets, or unset it."
        )
    return folder


def cache_folder() -> Path:
    """Return the folder for downloads, ``~/.cache/dgl-rbm`` or under ``XDG_CACHE_HOME``; it need not exist."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "dgl-rbm"


def download(url: str, target: Path, *, hint: str) -> None:
    """Download `url` to the file `target` atomically.

    Raises
    ------
    DatasetNotFoundError
        If the download fails or is incomplete, or `target` cannot be written; carries `hint`.
    """
    try:
        with atomic_path(target) as partial:
            _fetch(url, partial)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DatasetNotFoundError(
            f"'{target.name}' is not on disk, and {url} could not be downloaded to '{target.parent}': {reason}.",
            hint=hint,
        ) from None


def _fetch(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, target.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        expected = response.headers.get("Content-Length")
    received = target.stat().st_size
    if expected is not None and int(expected) != received:
        raise OSError(f"the connection ended after {received} of {expected} bytes")


def download_folder(url: str, target: Path, *, inner: str | None = None, hint: str) -> None:
    """Download a zip archive and unpack it to the folder `target` atomically.

    Parameters
    ----------
    url : str
        URL of the archive.
    target : Path
        A folder that does not exist yet.
    inner : str, optional
        Folder inside the archive that becomes `target`; the top of the archive by default.
    hint : str
        Hint for the user if it fails.

    Raises
    ------
    DatasetNotFoundError
        If the download fails or is incomplete, or `target` cannot be written.
    DataError
        If it is not a zip archive, or lacks `inner`.
    """
    archive = target.with_name(f"{target.name}.zip")
    download(url, archive, hint=hint)
    try:
        with atomic_path(target) as partial:
            unpacked = partial.with_name(f"{partial.name}.unpacked")
            try:
                with zipfile.ZipFile(archive) as content:
                    content.extractall(unpacked)
                os.replace(unpacked / inner if inner else unpacked, partial)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"The archive of {url} cannot be unpacked to '{target}': {error}.", hint=hint) from None
    finally:
        archive.unlink(missing_ok=True)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a file or folder, and move it to `target` if no exception was raised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        partial = Path(folder) / target.name
        yield partial
        os.replace(partial, target)


def map_features(path: Path) -> np.ndarray:
    """Map the array of a ``.npy`` file copy-on-write; it may be larger than memory.

    Raises
    ------
    DatasetNotFoundError
        If there is no such file.
    DataError
        If the file is damaged, has another format, or is an archive of several arrays.
    """
    if not path.is_file():
        raise DatasetNotFoundError(
            f"There is no features file '{path}'.", hint="`numpy.save(path, features)` writes one."
        )
    try:
        with path.open("rb") as file:
            archive = file.read(len(_ARCHIVE)) == _ARCHIVE
            file.seek(0)
            if not archive:
                return map_npy(file)
    except DAMAGE as error:
        raise DataError(
            f"The file '{path}' is truncated or not written by `numpy.save`: {error}",
            hint="`numpy.save` writes such a file; choose a new name for it.",
        ) from None
    raise DataError(
        f"The features file '{path}' is an archive, as `numpy.savez` writes; expected a single array.",
        hint="`numpy.save('features.npy', numpy.load(path)[name])` writes one of its arrays to a file of its own.",
    )

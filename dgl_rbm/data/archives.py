"""NumPy archives: arrays of ``.npz`` files, read without executing pickled objects."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from dgl_rbm.data.recognition import missing, unusable
from dgl_rbm.errors import DataError
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, read_npy_header

__all__ = ["Archive"]

_ENDING = ".npy"
_EXPECTED = "a NumPy archive (.npz)"


class Archive:
    """Arrays of an ``.npz`` file by name; a context manager.

    Parameters
    ----------
    path : Path
        The file.
    hint : str, optional
        Next step if it is damaged or no archive.

    Raises
    ------
    DatasetNotFoundError
        If there is no such file.
    DataError
        If it is not a NumPy archive.
    """

    def __init__(self, path: Path, hint: str | None = None) -> None:
        self.path, self._hint = path, hint or "Download or write the file again."
        if not path.exists():
            raise missing(path, "graph file")
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise unusable(path, _EXPECTED) if hint is None else self._damage("no zip archive")
        try:
            self._zip = zipfile.ZipFile(path)
        except NPY_DAMAGE as error:
            raise self._damage(error) from None
        self._read = set[str]()
        self.names = tuple(name[: -len(_ENDING)] for name in self._zip.namelist() if name.endswith(_ENDING))
        if not self.names:
            raise unusable(path, _EXPECTED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of the arrays that were not read."""
        return tuple(name for name in self.names if name not in self._read)

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of some names that the archive has."""
        return next((name for name in names if name in self), None)

    def has_objects(self, name: str) -> bool:
        """Whether an array contains pickled Python objects, which are never read."""
        try:
            with self._zip.open(name + _ENDING) as file:
                read_npy_header(file)
        except ValueError as error:
            return "Python objects" in str(error)
        except NPY_DAMAGE:
            return False
        return False

    def read(self, name: str) -> np.ndarray:
        """Return an array.

        Raises
        ------
        DataError
            If there is none of this name, it is damaged, or it contains Python objects.
        """
        if name not in self:
            raise DataError(
                f"The file '{self.path}' lacks the array '{name}'; it contains {', '.join(sorted(self.names))}."
            )
        if self.has_objects(name):
            raise DataError(
                f"The array '{name}' of the file '{self.path}' contains Python objects, which can run any code when "
                "they are read; expected numbers or text.",
                hint="If you trust the file, load it with `numpy.load(path, allow_pickle=True)` and save the array as "
                f"numbers or text, such as `numpy.asarray({name}.tolist())`.",
            )
        self._read.add(name)
        member = name + _ENDING
        try:
            with self._zip.open(member) as file:
                shape, _, dtype = read_npy_header(file)
                expected = int(np.prod([int(size) for size in shape], dtype=object)) * dtype.itemsize
                # A wrong shape would be allocated before the end of the file is noticed.
                if expected != self._zip.getinfo(member).file_size - file.tell():
                    raise ValueError(f"the array '{name}' of shape {shape} does not fit its size in the file")
            with self._zip.open(member) as file:
                found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        except NPY_DAMAGE as error:
            raise self._damage(error) from None
        return found

    def matrix(self, prefix: str) -> sp.csr_matrix:
        """Return a matrix stored as ``PREFIX_matrix``, or as CSR parts ``PREFIX_data``, ``_indices``, ``_indptr``, \
        ``_shape``; without data, all stored values are 1.

        Raises
        ------
        DataError
            If an array is missing or damaged, or they form no matrix.
        """
        if f"{prefix}_matrix" in self:
            dense = self.read(f"{prefix}_matrix")
            if dense.ndim != 2 or dense.dtype.kind not in "biuf":
                raise DataError(
                    f"The array '{prefix}_matrix' of the file '{self.path}' is of type {dense.dtype} and shape "
                    f"{dense.shape}; expected a matrix of numbers."
                )
            return sp.csr_matrix(dense)
        indices, indptr, shape = (self.read(f"{prefix}_{part}") for part in ("indices", "indptr", "shape"))
        data = self.read(f"{prefix}_data") if f"{prefix}_data" in self else np.ones(len(indices), dtype=np.uint8)
        try:
            matrix: Any = sp.csr_matrix((data, indices, indptr), shape=tuple(int(size) for size in shape))
            matrix.check_format(full_check=True)
        except NPY_DAMAGE as error:
            raise DataError(
                f"The file '{self.path}' is damaged: the arrays '{prefix}_*' form no sparse matrix: {error}.",
                hint=self._hint,
            ) from None
        matrix.sum_duplicates()
        return matrix

    def _damage(self, error: object) -> DataError:
        return DataError(f"The file '{self.path}' is damaged or not a NumPy archive: {error}.", hint=self._hint)

"""Tables: CSV and Parquet files and data frames, whose columns are read when they are used."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgl_rbm.data.csv_files import CsvFile
from dgl_rbm.data.parquet import read_parquet
from dgl_rbm.errors import DataError, closest

__all__ = ["Table", "matching_names"]

_SHOWN = 60
_MOST_NAMES = 12


class Table:
    """Table with named columns.

    Attributes
    ----------
    source : str
        Name of the table in messages.
    names : tuple of str
        Names of the columns.
    is_text : bool
        Whether all cells are text, as in a CSV file.
    """

    def __init__(
        self,
        source: str,
        names: Sequence[str],
        read: Callable[[list[int]], list[np.ndarray]],
        *,
        is_text: bool = False,
        line_of: Callable[[int], int | None] = lambda row: None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.source = source
        self.names = tuple(names)
        self.is_text = is_text
        self._read = read
        self._line_of = line_of
        self._rows = rows
        self._cells: dict[int, np.ndarray] = {}

    @classmethod
    def from_file(cls, path: Path, *, separator: str = ",", may_lack_header: bool = False) -> Table:
        """Open a ``.parquet`` file, or a CSV file of any other suffix.

        Parameters
        ----------
        path : Path
            CSV files may be compressed as ``.gz``, ``.bz2`` or ``.xz``.
        separator : str
            Separator of CSV cells, or a regular expression.
        may_lack_header : bool
            Whether a first line of numbers is a row; the columns are then named ``column 0`` and so on.

        Raises
        ------
        DataError
            If the file is missing, empty, or no table.
        MissingDependencyError
            If a Parquet file cannot be read because pyarrow is missing or unusable.
        """
        if path.suffix.lower() == ".parquet":
            return cls.from_frame(read_parquet(path), f"'{path}'")
        file = CsvFile(path, separator, may_lack_header=may_lack_header)
        return cls(f"'{path}'", file.names, file.read, is_text=True, line_of=file.line_of)

    @classmethod
    def from_frame(cls, frame: Any, source: str) -> Table:
        """Return the columns of a pandas data frame, or of another object with `columns` and ``frame[name]``.

        Raises
        ------
        DataError
            If `frame` is not a table of named columns.
        """
        if isinstance(frame, pd.DataFrame):
            return cls(
                source, [str(name) for name in frame.columns], lambda ids: [_cells(frame.iloc[:, i]) for i in ids]
            )
        if not hasattr(frame, "columns") or not hasattr(frame, "__getitem__"):
            raise DataError(
                f"{source} is a {type(frame).__name__}; expected a table of named columns.",
                hint="`pandas.DataFrame({'node_id': ids, ...})` makes one.",
            )
        names = list(frame.columns)
        return cls(source, [str(name) for name in names], lambda ids: [np.asarray(frame[names[i]]) for i in ids])

    def __len__(self) -> int:
        if not self.names:
            return 0
        if not self._cells:
            self._load([0])
        return len(next(iter(self._cells.values())))

    def load(self, names: Collection[str]) -> None:
        """Read several columns at once; those that do not exist are skipped."""
        self._load([position for position, name in enumerate(self.names) if name in names])

    def column(self, name: str, what: str = "") -> np.ndarray:
        """Return the cells of a column.

        Parameters
        ----------
        name : str
            Name of the column.
        what : str
            What the column is for, in errors: ``"the labels"``.

        Raises
        ------
        DataError
            If there is no such column, or several.
        """
        positions = [position for position, known in enumerate(self.names) if known == name]
        if len(positions) != 1:
            use = f" for {what}" if what else ""
            if positions:
                raise DataError(f"{self.source} has {len(positions)} columns '{name}'{use}; expected one.")
            near = closest(name, self.names)
            guess = f" Did you mean '{near}'?" if near else ""
            raise DataError(f"{self.source} has no column '{name}'{use}.{guess} It has: {listed(self.names)}.")
        if positions[0] not in self._cells:
            self._load(positions)
        return self._cells[positions[0]]

    def where(self, mask: np.ndarray) -> Table:
        """Return the rows of a mask; messages name them by their rows in this table."""
        rows = np.flatnonzero(mask)
        whole = np.arange(len(mask)) if self._rows is None else self._rows
        part = Table(self.source, self.names, self._read, is_text=self.is_text, line_of=self._line_of, rows=whole[rows])
        part._cells = {position: cells[rows] for position, cells in self._cells.items()}
        return part

    def error(self, name: str, row: int, problem: str, hint: str | None = None) -> DataError:
        """Return the error that a cell has a `problem`, such as ``"is not a number"``."""
        cell = self.column(name)[row]
        shown = repr(cell.item() if isinstance(cell, np.generic) else cell)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return DataError(f"{self.source}, column '{name}', {self.place(row)}: {shown} {problem}.", hint=hint)

    def place(self, row: int) -> str:
        """Return the row's number from 0, and its line if the table is a text file: ``"row 0 (line 2)"``."""
        number = int(row if self._rows is None else self._rows[row])
        line = self._line_of(number)
        return f"row {number}" if line is None else f"row {number} (line {line})"

    def _load(self, positions: list[int]) -> None:
        missing = [position for position in positions if position not in self._cells]
        if missing:
            for position, cells in zip(missing, self._read(missing), strict=True):
                self._cells[position] = cells if self._rows is None else cells[self._rows]


def matching_names(
    patterns: str | Sequence[str], known: Sequence[str], what: str, where: str, *, excluded: Collection[str] = ()
) -> list[str]:
    """Return the known names that are listed, or match a pattern such as ``feat_*``, without repetition.

    Parameters
    ----------
    patterns : str or sequence of str
        Names or patterns; a pattern stands for its matches in the order of `known`.
    known : sequence of str
        All names.
    what, where : str
        What the names are and where they are looked for, in errors: ``"features"``, ``"'nodes.csv'"``.
    excluded : collection of str
        Names that no pattern matches.

    Raises
    ------
    DataError
        If nothing is listed, a name is unknown, or a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern in known:
            found[pattern] = None
            continue
        is_pattern = any(character in pattern for character in "*?[")
        matches = [name for name in known if fnmatch.fnmatchcase(name, pattern) and name not in excluded]
        if not is_pattern or not matches:
            near = closest(pattern, known)
            guess = f" Did you mean '{near}'?" if near and not is_pattern else ""
            kind = "matches the pattern" if is_pattern else "is called"
            raise DataError(f"{where}: nothing {kind} '{pattern}' for the {what}.{guess} There is: {listed(known)}.")
        found.update(dict.fromkeys(matches))
    if not found:
        raise DataError(f"{where}: the list of {what} is empty; expected one name or more.")
    return list(found)


def listed(names: Sequence[str]) -> str:
    """Return the first names for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMES]) or "nothing"
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _cells(column: pd.Series) -> np.ndarray:
    """Return a column as an array; nullable types with gaps, text, categories and dates as objects."""
    if column.dtype.kind in "biuf" and isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    if pd.api.types.is_bool_dtype(column.dtype) and not column.hasnans:
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return column.to_numpy(dtype=np.int64 if column.max() < 2**63 else np.uint64) if len(column) else _NO_IDS
    return column.astype(object).to_numpy(dtype=object)


_NO_IDS = np.empty(0, dtype=np.int64)

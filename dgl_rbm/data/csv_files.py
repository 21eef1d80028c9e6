"""Reader of CSV files as columns of text, which names the line of every fault."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgl_rbm.errors import DataError

__all__ = ["CsvFile", "is_number"]

_ROWS_AT_ONCE = 200_000
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, re.error, csv.Error, OverflowError, IndexError)
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK\x03\x04": "a spreadsheet or archive"}
_UTF8_HINT = "Convert the file: `iconv -f latin1 -t utf-8 OLD > NEW`, or save it as 'CSV UTF-8'."


class CsvFile:
    """CSV file whose columns are read as text.

    Parameters
    ----------
    path : Path
        Text in UTF-8, with or without a byte-order mark; compressed if the suffix is ``.gz``, ``.bz2`` or ``.xz``.
    separator : str
        A character, or a regular expression.
    may_lack_header : bool
        Whether a first line of numbers is a row.

    Attributes
    ----------
    names : list of str
        The header, without surrounding spaces.

    Raises
    ------
    DataError
        If the file is missing, empty, or no text.
    """

    def __init__(self, path: Path, separator: str = ",", *, may_lack_header: bool = False) -> None:
        self.path = path
        self.separator = {"": ",", "\\t": "\t"}.get(separator, separator)
        if not path.is_file():
            raise DataError(f"'{path}' cannot be read: there is no such file.")
        self._check_encoding()
        chunks = self._chunks(1)
        first = next(chunks, None)
        chunks.close()
        if first is None or not first.shape[1]:
            raise DataError(f"'{path}' is not a CSV table: the file is empty; expected a line of column names.")
        cells = [str(cell).strip() for cell in _texts(first.iloc[0])]
        self._has_header = not (may_lack_header and all(map(is_number, cells)) and not _counts_up(cells))
        # The parser removes the byte-order mark, but not in front of a quoted name of every version.
        cells[0] = cells[0].removeprefix("\ufeff")
        self.names = cells if self._has_header else [f"column {i}" for i in range(len(cells))]

    def read(self, columns: list[int]) -> list[np.ndarray]:
        """Return the cells of some columns, arrays of str.

        Raises
        ------
        DataError
            If a row has another number of cells than the header, or a cell read is not UTF-8; names the line.
        """
        parts: list[list[np.ndarray]] = [[] for _ in columns]
        last_is_empty = False
        for number, chunk in enumerate(self._chunks(None)):
            rows = chunk.iloc[1:] if number == 0 and self._has_header else chunk
            last_is_empty |= bool((_texts(rows.iloc[:, -1]) == "").any())
            for part, column in zip(parts, columns, strict=True):
                part.append(_texts(rows.iloc[:, column]))
        if last_is_empty:
            # The parser fills short rows with empty cells.
            self._check_lengths()
        found = [np.concatenate(part) for part in parts]
        for column, cells in zip(columns, found, strict=True):
            self._check_text(column, cells)
        return found

    def line_of(self, row: int) -> int | None:
        """Return the line, counted from 1, in which a row starts; None if the separator is a regular expression."""
        wanted = row + self._has_header
        for number, (line, _) in enumerate(self._records()):
            if number == wanted:
                return line
        return None

    def _chunks(self, nrows: int | None) -> Generator[pd.DataFrame, None, None]:
        is_pattern = len(self.separator) > 1
        options: dict[str, Any] = {"skipinitialspace": True} if self.separator.strip() else {}
        try:
            with pd.read_csv(
                self.path,
                sep=self.separator,
                header=None,
                dtype=object,
                keep_default_na=False,
                encoding="utf-8",
                encoding_errors="surrogateescape",
                engine="python" if is_pattern else "c",
                chunksize=_ROWS_AT_ONCE,
                nrows=nrows,
                **options,
            ) as chunks:
                yield from chunks
        except pd.errors.EmptyDataError:
            return
        except _DAMAGE as error:
            self._check_lengths()
            reason = " ".join(str(error).replace("Error tokenizing data. C error: ", "").split())
            raise DataError(
                f"'{self.path}' is not a CSV table with the separator {self.separator!r}: {reason}."
            ) from None

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the first line and the cells of each row, the header included; blank lines are skipped."""
        if len(self.separator) > 1:
            return
        opener = _OPENERS.get(self.path.suffix.lower(), open)
        spaces = bool(self.separator.strip())
        try:
            with opener(self.path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
                reader = csv.reader(file, delimiter=self.separator, skipinitialspace=spaces)
                line = 1
                for cells in reader:
                    if len(cells) > 1 or (cells and cells[0].strip()):
                        yield line, cells
                    line = reader.line_num + 1
        except (*_DAMAGE, TypeError):
            # Only messages become less exact.
            return

    def _check_lengths(self) -> None:
        expected = None
        for line, cells in self._records():
            expected = len(cells) if expected is None else expected
            if len(cells) != expected:
                raise DataError(
                    f"'{self.path}', line {line}: {len(cells)} cells; the first line has {expected}.",
                    hint=f"Put cells that contain the separator {self.separator!r} in double quotes.",
                )

    def _check_encoding(self) -> None:
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
        except OSError as error:
            raise DataError(f"'{self.path}' cannot be read: {error.strerror or error}.") from None
        for magic, name in _OTHER_ENCODINGS.items():
            if start.startswith(magic):
                raise DataError(f"'{self.path}' is not a CSV table in UTF-8, but {name}.", hint=_UTF8_HINT)

    def _check_text(self, column: int, cells: np.ndarray) -> None:
        for row, cell in enumerate(cells):
            if not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell):
                raise DataError(
                    f"'{self.path}', column '{self.names[column]}', row {row} (line {self.line_of(row)}): "
                    f"{cell.encode('utf-8', 'surrogateescape')!r} is not text in UTF-8.",
                    hint=_UTF8_HINT,
                )


def _texts(cells: pd.Series) -> np.ndarray:
    """Return cells as str; missing ones, which only the parser of regular expressions leaves, as empty text."""
    found: np.ndarray = cells.to_numpy(dtype=object)
    missing = pd.isna(found)
    return np.where(missing, "", found) if missing.any() else found


def _counts_up(cells: list[str]) -> bool:
    """Whether the cells are 0, 1, 2, ... in any order, the names that pandas gives to unnamed columns."""
    return len(cells) > 1 and sorted(cells) == sorted(str(i) for i in range(len(cells)))


def is_number(text: str) -> bool:
    """Return whether Python reads a text as a number, infinity and NaN included."""
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Parquet files, which need pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.errors import DataError, MissingDependencyError

__all__ = ["read_parquet", "write_parquet"]

# Raised for damaged files and unsupported types, by pyarrow's subclasses of these.
_DAMAGE = (ValueError, OSError, TypeError, NotImplementedError, LookupError, OverflowError, RuntimeError)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file.

    Raises
    ------
    MissingDependencyError
        If pyarrow is missing, or cannot be imported; states why.
    DataError
        If the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.")
    with _needs_pyarrow("Reading"):
        try:
            return pd.read_parquet(path)
        except _DAMAGE as error:
            raise DataError(f"'{path}' is not a Parquet file: {_first_line(error)}") from None


def write_parquet(frame: pd.DataFrame, target: Any) -> None:
    """Write a Parquet file or buffer.

    Raises
    ------
    MissingDependencyError
        If pyarrow is missing, or cannot be imported; states why.
    """
    with _needs_pyarrow("Writing"):
        frame.to_parquet(target, index=False)


@contextmanager
def _needs_pyarrow(action: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"{action} Parquet files needs pyarrow, which cannot be used: {_reason(error)}",
            hint="Install it with `pip install 'dgl-rbm[parquet]'`, or use .csv files.",
        ) from None


def _reason(error: Exception) -> str:
    """Return pyarrow's own error if it cannot be imported; pandas' message names no cause."""
    try:
        importlib.import_module("pyarrow.parquet")
    except Exception as own:
        return f"{type(own).__name__}: {_first_line(own)}"
    return " ".join(str(error).split())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0]

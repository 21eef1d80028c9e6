"""A part of the columns of rows: what a router or the experts of a layer read of them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows

__all__ = ["Columns", "columns_of", "input_columns"]

Columns = Literal["all", "encoding", "features"]


def columns_of(rows: Rows, columns: slice | None) -> Rows:
    """Return the given columns of `rows`, or `rows` where `columns` is None.

    Parameters
    ----------
    rows : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.
    columns : slice or None
        First column and the one after the last.

    Returns
    -------
    Tensor, SparseRows or StackedRows
        Shares the values where the columns are whole parts of stacked rows, or the rows a tensor.
    """
    if columns is None:
        return rows
    start, stop, _ = columns.indices(rows.shape[1])
    if (start, stop) == (0, rows.shape[1]):
        return rows
    if isinstance(rows, Tensor):
        return rows[:, start:stop]
    if isinstance(rows, StackedRows):
        parts, before = [], 0
        for part, width in zip(rows.parts, rows.widths, strict=True):
            inside = slice(max(start - before, 0), min(stop - before, width))
            if inside.start < inside.stop:
                parts.append(columns_of(part, inside))
            before += width
        return parts[0] if len(parts) == 1 else StackedRows(parts)  # type: ignore[arg-type]
    return SparseRows.from_scipy(rows.to_scipy()[:, start:stop]).to(rows.device)


def input_columns(part: Columns, in_dim: int, encoding_dim: int | None, option: str) -> slice | None:
    """Return which columns of a student's inputs `part` means; None for all.

    Parameters
    ----------
    part : {"all", "encoding", "features"}
    in_dim : int
        F + P; the encodings come last.
    encoding_dim : int or None
        P, where it is known.
    option : str
        The option that asks, for errors.

    Raises
    ------
    ConfigError
        Where P is not known, or there are no such columns.
    """
    if part == "all":
        return None
    if encoding_dim is None:
        raise ConfigError(
            f"{option} is '{part}', but how many of the {in_dim} columns are encodings is not known.",
            hint="Set encoding_dim, 0 where there are none.",
        )
    if not 0 <= encoding_dim <= in_dim or not (encoding_dim if part == "encoding" else in_dim - encoding_dim):
        raise ConfigError(
            f"{option} is '{part}', but {encoding_dim} of the {in_dim} columns are encodings.",
            hint="Use an encoder, such as `--encoder diffusion`." if part == "encoding" else None,
        )
    split = in_dim - encoding_dim
    return slice(split, in_dim) if part == "encoding" else slice(0, split)

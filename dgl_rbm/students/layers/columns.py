"""Column selection: the columns of its inputs that a layer's router or experts read."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows

__all__ = ["Columns", "column_slice", "select_columns"]

Columns = Literal["all", "encoding", "features"]


def select_columns(rows: Rows, columns: slice | None) -> Rows:
    """Return the given columns of `rows`, or `rows` itself if `columns` is None.

    Parameters
    ----------
    rows : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.
    columns : slice or None
        First column, and one past the last.

    Returns
    -------
    Tensor, SparseRows or StackedRows
        A view of a tensor, and of stacked rows if the columns are whole parts; otherwise a copy.
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
                parts.append(select_columns(part, inside))
            before += width
        return parts[0] if len(parts) == 1 else StackedRows(parts)  # type: ignore[arg-type]
    return SparseRows.from_scipy(rows.to_scipy()[:, start:stop]).to(rows.device)


def column_slice(part: Columns, in_dim: int, encoding_dim: int | None, option: str) -> slice | None:
    """Return the columns of a student's inputs that `part` names; None stands for all.

    Parameters
    ----------
    part : {"all", "encoding", "features"}
    in_dim : int
        F + P; the encodings come last.
    encoding_dim : int or None
        P, if known.
    option : str
        Name of the option with the value `part`, for errors.

    Raises
    ------
    ConfigError
        If P is unknown, or `part` has no columns.
    """
    if part == "all":
        return None
    if encoding_dim is None:
        raise ConfigError(
            f"{option} is '{part}', but the number of encodings among the {in_dim} columns is unknown.",
            hint="Set encoding_dim; 0 if there are no encodings.",
        )
    if not 0 <= encoding_dim <= in_dim or not (encoding_dim if part == "encoding" else in_dim - encoding_dim):
        raise ConfigError(
            f"{option} is '{part}', but {encoding_dim} of the {in_dim} columns are encodings.",
            hint="Use an encoder, such as `--encoder diffusion`." if part == "encoding" else None,
        )
    split = in_dim - encoding_dim
    return slice(split, in_dim) if part == "encoding" else slice(0, split)

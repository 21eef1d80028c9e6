"""Feature normalisation, kept with a student so that rows predicted later are treated as the training rows were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dgl_rbm.errors import ArtifactError, DataError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.sparse import Rows, SparseRows

__all__ = ["FeatureNormalization"]

# Rows of this length and more are left as they are.
_SHORT = 0.5
_KINDS = ("none", "row", "standard")


@dataclass(frozen=True)
class FeatureNormalization:
    """A map from raw feature rows to normalised ones.

    Attributes
    ----------
    kind : {"none", "row", "standard"}
        ``"row"`` divides each row by its sum of absolute values and leaves rows of zeros alone; sparse rows stay
        sparse. ``"standard"`` shifts each column to mean 0 and scales it to deviation 1, constant columns only
        shifted; sparse rows become dense.
    mean, std : Tensor or None
        float32 ``[F]``, of the rows that ``"standard"`` was fitted on.
    scale : float
        What every row is multiplied by after that.
    """

    kind: Literal["none", "row", "standard"] = "none"
    mean: Tensor | None = None
    std: Tensor | None = None
    scale: float = 1.0

    @classmethod
    def fit(cls, kind: Literal["none", "row", "standard"], features: Any) -> FeatureNormalization:
        """Return the normalisation of this kind, fitted on `features` ``[N, F]`` where it has anything to fit.

        Parameters
        ----------
        kind : {"none", "row", "standard"}
        features : array-like

        Raises
        ------
        DataError
            Where ``"standard"`` is to be fitted on no row.
        """
        rows = as_rows(features)
        return cls._standard(rows) if kind == "standard" else cls(kind)

    @classmethod
    def _standard(cls, rows: Rows) -> FeatureNormalization:
        dense = _dense(rows)
        if not len(dense):
            raise DataError("Column means cannot be fitted on features without a row.")
        # Summed in double precision and then rounded, the mean of a constant column is that constant, exactly.
        mean = dense.mean(0, dtype=torch.float64).float()
        std = (dense - mean).square_().mean(0, dtype=torch.float64).sqrt().float()
        return cls("standard", mean, torch.where(std > 0, std, torch.ones_like(std)))

    def rescaled(self, lengths: Tensor) -> FeatureNormalization:
        """Return it with a `scale` that brings short rows to a root mean square length of 1.

        Row-normalised bags of words have lengths near 0.1: weights that start as usual then take hundreds of epochs to
        grow, while weight decay holds them back.

        Parameters
        ----------
        lengths : Tensor
            Of the rows as this normalisation leaves them, ``[N]``. Where they are zeros, or their root mean square is
            0.5 or more, the scale stays.
        """
        length = float(lengths.double().square().mean().sqrt()) if len(lengths) else 0.0
        return replace(self, scale=self.scale / length) if 0 < length < _SHORT else self

    def apply(self, rows: Any) -> Rows:
        """Return normalised float32 rows; `rows` itself is left as it is.

        Raises
        ------
        DataError
            Where `rows` is not a matrix of numbers, or has another number of columns than the fitted rows.
        """
        normalized = self._normalized(as_rows(rows))
        return normalized if self.scale == 1 else _times(normalized, self.scale)

    def _normalized(self, rows: Rows) -> Rows:
        if self.kind == "none":
            return rows
        if self.kind == "row":
            return _divide_by_l1(rows)
        assert self.mean is not None
        assert self.std is not None
        if rows.shape[1] != len(self.mean):
            raise DataError(f"The rows have {rows.shape[1]} columns; the normalisation was fitted on {len(self.mean)}.")
        dense = _dense(rows)
        return (dense - self.mean.to(dense.device)) / self.std.to(dense.device)

    def state_dict(self) -> dict[str, Any]:
        """Return ``{"kind": str, "scale": float}``, with the tensors ``"mean"`` and ``"std"`` where there are any."""
        state: dict[str, Any] = {"kind": self.kind, "scale": self.scale}
        if self.mean is not None and self.std is not None:
            state |= {"mean": self.mean, "std": self.std}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FeatureNormalization:
        """Build from what `state_dict` returned.

        Raises
        ------
        ArtifactError
            Where the kind is unknown or its tensors are missing.
        """
        kind, mean, std = state.get("kind"), state.get("mean"), state.get("std")
        if kind not in _KINDS or (kind == "standard" and (mean is None or std is None)):
            raise ArtifactError(
                f"The saved feature normalisation {kind!r} cannot be restored: expected one of "
                f"{', '.join(_KINDS)}, 'standard' with the tensors 'mean' and 'std'."
            )
        return cls(kind, mean, std, float(state.get("scale", 1.0)))


def _times(rows: Rows, scale: float) -> Rows:
    if isinstance(rows, Tensor):
        return rows * scale
    matrix = rows.to_scipy().copy()
    matrix.data *= scale
    return SparseRows.from_scipy(matrix).to(rows.device)


def _dense(rows: Rows) -> Tensor:
    return rows if isinstance(rows, Tensor) else rows.to_dense()


def _divide_by_l1(rows: Rows) -> Rows:
    if isinstance(rows, Tensor):
        return torch.nn.functional.normalize(rows, p=1.0, dim=1, eps=torch.finfo(rows.dtype).tiny)
    matrix = rows.to_scipy().copy()
    sums = abs(matrix).sum(axis=1, dtype="float64").A1
    sums[sums == 0] = 1
    matrix.data /= sums.repeat(matrix.indptr[1:] - matrix.indptr[:-1])
    return SparseRows.from_scipy(matrix).to(rows.device)

"""Feature normalisation, saved with the student and applied to every row that is predicted later."""

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

# Rows of a smaller root mean square length are rescaled.
_SHORT = 0.5
_KINDS = ("none", "row", "standard")


@dataclass(frozen=True)
class FeatureNormalization:
    """A map from raw feature rows to normalised ones.

    Attributes
    ----------
    kind : {"none", "row", "standard"}
        ``"row"`` divides each row by its sum of absolute values and keeps rows of zeros; sparse rows stay sparse.
        ``"standard"`` shifts each column to mean 0 and scales it to standard deviation 1; constant columns are only
        shifted, and sparse rows become dense.
    mean, std : Tensor or None
        Statistics of ``"standard"``, float32 ``[F]``.
    scale : float
        Factor that multiplies every normalised row.
    """

    kind: Literal["none", "row", "standard"] = "none"
    mean: Tensor | None = None
    std: Tensor | None = None
    scale: float = 1.0

    @classmethod
    def fit(cls, kind: Literal["none", "row", "standard"], features: Any) -> FeatureNormalization:
        """Return the normalisation of this kind; ``"standard"`` is fitted on `features` ``[N, F]``.

        Parameters
        ----------
        kind : {"none", "row", "standard"}
        features : array-like

        Raises
        ------
        DataError
            If ``"standard"`` is fitted on no rows.
        """
        rows = as_rows(features)
        return cls._standard(rows) if kind == "standard" else cls(kind)

    @classmethod
    def _standard(cls, rows: Rows) -> FeatureNormalization:
        dense = _dense(rows)
        if not len(dense):
            raise DataError("Column means cannot be computed from features without rows.")
        # In double precision the mean of a constant column rounds to exactly that constant.
        mean = dense.mean(0, dtype=torch.float64).float()
        std = (dense - mean).square_().mean(0, dtype=torch.float64).sqrt().float()
        return cls("standard", mean, torch.where(std > 0, std, torch.ones_like(std)))

    def rescaled(self, lengths: Tensor) -> FeatureNormalization:
        """Return a copy whose `scale` gives short rows a root mean square length of 1.

        Row-normalised bags of words have lengths near 0.1. From the usual initialisation the weights then take
        hundreds of epochs to grow, against weight decay.

        Parameters
        ----------
        lengths : Tensor
            Lengths of the normalised rows, ``[N]``. If their root mean square is 0, or at least 0.5, the scale is
            unchanged.
        """
        length = float(lengths.double().square().mean().sqrt()) if len(lengths) else 0.0
        return replace(self, scale=self.scale / length) if 0 < length < _SHORT else self

    def apply(self, rows: Any) -> Rows:
        """Return normalised float32 rows; `rows` is not changed.

        Raises
        ------
        DataError
            If `rows` is not a matrix of numbers, or its number of columns differs from that of the fitted rows.
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
        """Return ``{"kind": str, "scale": float}``, and the tensors ``"mean"`` and ``"std"`` of ``"standard"``."""
        state: dict[str, Any] = {"kind": self.kind, "scale": self.scale}
        if self.mean is not None and self.std is not None:
            state |= {"mean": self.mean, "std": self.std}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FeatureNormalization:
        """Restore a normalisation from its `state_dict`.

        Raises
        ------
        ArtifactError
            If the kind is unknown or its tensors are missing.
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

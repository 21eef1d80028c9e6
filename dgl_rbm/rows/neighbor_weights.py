"""Weights of the neighbours of rows that are predicted, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError

__all__ = ["LARGEST_WEIGHT", "weight_lists"]

# Sums over 10^8 edges stay within the range of float32.
LARGEST_WEIGHT = 1e30


def weight_lists(values: Any, lengths: Tensor, what: str = "neighbor_weights") -> Tensor:
    """Return the weights of all neighbours one after the other, float32 ``[M]``.

    Parameters
    ----------
    values : sequence of array-like
        One list of numbers from 0 on for each list of neighbours.
    lengths : Tensor
        Numbers of neighbours, int64 ``[B]``.
    what : str
        Name of the argument in errors.

    Raises
    ------
    DataError
        If there is not one weight per neighbour, or one is negative or no finite number; names the row and the weight.
    """
    hint = "One list of weights per list of neighbours: neighbors=[[0, 4], []], neighbor_weights=[[1.0, 0.5], []]."
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise DataError(f"{what} is a {type(values).__name__}; expected one list of weights per row.", hint=hint)
    rows = list(values)
    if len(rows) != len(lengths):
        raise DataError(f"{what} has {len(rows)} lists for {len(lengths)} lists of neighbours.", hint=hint)
    parts = [np.empty(0, dtype=np.float64)]
    for row, (weights, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        part = _numbers([] if weights is None else weights)
        if part is None:
            raise DataError(f"{what}, row {row}: expected a list of numbers.", hint=hint)
        if len(part) != length:
            raise DataError(f"{what}, row {row}: {len(part)} weights for {length} neighbours.", hint=hint)
        wrong = np.flatnonzero(~((part >= 0) & (part <= LARGEST_WEIGHT)))
        if len(wrong):
            raise DataError(
                f"{what}, row {row}, position {wrong[0]}: the weight {part[wrong[0]]:g} is not a number from 0 to "
                f"{LARGEST_WEIGHT:g}."
            )
        parts.append(part)
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def _numbers(weights: Any) -> np.ndarray | None:
    """Return a list of real numbers as float64 ``[D]``; None if it is none."""
    if isinstance(weights, Tensor):
        weights = None if weights.is_complex() else weights.detach().cpu().double().numpy()
    try:
        found = np.asarray(weights)
    except (TypeError, ValueError):
        return None
    if found.ndim != 1 or not (found.dtype.kind in "iuf" or not len(found)):
        return None
    return found.astype(np.float64)

"""Interleaved timing of several models' predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.runtime.process_state import isolated

__all__ = ["PredictionTime", "interleaved_times"]

_BATCH = 1024
_WARMUP = 5


@dataclass(frozen=True)
class PredictionTime:
    """Prediction time of one of several models.

    Attributes
    ----------
    single_us : float
        Median over single-row requests, microseconds.
    batch_us : float
        Median over requests of 1,024 rows, microseconds per row.
    single_ratio, batch_ratio : float
        Median over requests of the ratio to the first model's time for the same rows. The load of the machine
        fluctuates; it cancels in ratios of consecutive measurements.
    """

    single_us: float
    batch_us: float
    single_ratio: float
    batch_ratio: float


def interleaved_times(
    predictors: Mapping[str, Callable[[Tensor], Any]], count: int, *, repeats: int = 300
) -> dict[str, PredictionTime]:
    """Time predictors on one thread; every request goes to all predictors in turn.

    Parameters
    ----------
    predictors : mapping of str to callable
        Name to function of row numbers, int64 ``[B]``; the first one is the base of the ratios.
    count : int
        Number of rows to draw from, at least 1.
    repeats : int
        Number of single-row requests; a tenth as many batches.
    """
    generator = torch.Generator().manual_seed(0)
    # A server runs small requests in parallel, and a second thread slows down each one.
    with isolated(threads=1):
        single, batch = (
            _alternate(predictors, [torch.randint(count, (size,), generator=generator) for _ in range(many)])
            for size, many in ((1, repeats), (_BATCH, max(5, repeats // 10)))
        )
    base = next(iter(predictors))
    return {
        name: PredictionTime(
            single_us=1e6 * median(single[name]),
            batch_us=1e6 * median(batch[name]) / _BATCH,
            single_ratio=median(a / b for a, b in zip(single[name], single[base], strict=True)),
            batch_ratio=median(a / b for a, b in zip(batch[name], batch[base], strict=True)),
        )
        for name in predictors
    }


def _alternate(predictors: Mapping[str, Callable[[Tensor], Any]], requests: Sequence[Tensor]) -> dict[str, list[float]]:
    """Return the seconds of each request by predictor, after a warm-up on the first few requests."""
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for request in requests[:_WARMUP]:
        for predict in predictors.values():
            _timed(predict, request)
    for request in requests:
        for name, predict in predictors.items():
            seconds[name].append(_timed(predict, request))
    return seconds


@torch.no_grad()
def _timed(predict: Callable[[Tensor], Any], request: Tensor) -> float:
    start = time.perf_counter()
    predict(request)
    return time.perf_counter() - start

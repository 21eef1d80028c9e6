"""Prediction times of several students, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, take
from dgl_rbm.students.base import Student

__all__ = ["StudentTime", "side_by_side", "student_times"]

_BATCH = 1024
_WARMUP = 5


@dataclass(frozen=True)
class StudentTime:
    """Measured prediction time.

    Attributes
    ----------
    single_us : float
        Median of requests for one row, microseconds.
    batch_us : float
        Median of requests for 1,024 rows, microseconds a row.
    single_ratio, batch_ratio : float
        Median over requests of the time over that of the first student for the same rows: the load of the machine
        changes from moment to moment, and ratios of neighbouring moments cancel it.
    """

    single_us: float
    batch_us: float
    single_ratio: float
    batch_ratio: float


def side_by_side(
    predictors: Mapping[str, Callable[[Any], Any]],
    request: Callable[[Tensor], Any],
    count: int,
    *,
    repeats: int = 300,
) -> dict[str, StudentTime]:
    """Time predictors on one thread, each request by all of them in turn.

    Parameters
    ----------
    predictors : mapping of str to callable
        By name; each answers a request. Ratios are to the first of them.
    request : callable
        Makes a request of row numbers, int64 ``[B]``; not part of the time.
    count : int
        Rows to draw from, at least 1.
    repeats : int
        Requests for one row; a tenth as many for batches.
    """
    generator = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        single, batch = (
            _alternate(predictors, [request(torch.randint(count, (size,), generator=generator)) for _ in range(many)])
            for size, many in ((1, repeats), (_BATCH, max(5, repeats // 10)))
        )
    finally:
        torch.set_num_threads(threads)
    base = next(iter(predictors))
    return {
        name: StudentTime(
            single_us=1e6 * median(single[name]),
            batch_us=1e6 * median(batch[name]) / _BATCH,
            single_ratio=median(a / b for a, b in zip(single[name], single[base], strict=True)),
            batch_ratio=median(a / b for a, b in zip(batch[name], batch[base], strict=True)),
        )
        for name in predictors
    }


def student_times(students: Mapping[str, Student], x: Rows, *, repeats: int = 300) -> dict[str, StudentTime]:
    """Time students that serve, as `side_by_side` does, with their rows at hand.

    `dgl_rbm.evaluation.latency` times the gathering of rows and neighbours' vectors too.

    Parameters
    ----------
    students : mapping of str to Student
        By name, on the CPU, of the same input.
    x : Tensor or StructuredRows
        Rows to draw requests from, float32 ``[N, F + P]``, N ≥ 1.
    repeats : int
        Requests for one row; a tenth as many for batches.
    """
    was_training = {name: student.training for name, student in students.items()}
    try:
        serving = {name: student.serve() for name, student in students.items()}
        return side_by_side(serving, partial(take, x), x.shape[0], repeats=repeats)
    finally:
        for name, student in students.items():
            student.train(was_training[name])


def _alternate(predictors: Mapping[str, Callable[[Any], Any]], requests: Sequence[Any]) -> dict[str, list[float]]:
    """Return the seconds of each request by predictor; the first few requests come twice, at first unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for request in requests[:_WARMUP]:
        for predict in predictors.values():
            _timed(predict, request)
    for request in requests:
        for name, predict in predictors.items():
            seconds[name].append(_timed(predict, request))
    return seconds


@torch.no_grad()
def _timed(predict: Callable[[Any], Any], request: Any) -> float:
    start = time.perf_counter()
    predict(request)
    return time.perf_counter() - start

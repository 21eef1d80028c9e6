"""Interleaved timing with a fake clock."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgl_rbm.evaluation.timing import interleaved_times


class Clock:
    """Fake clock that advances only while a model predicts."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class TimedModel:
    """Model with a given time per prediction, multiplied by a load that grows with every request."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.requests: list[Tensor] = []

    def __call__(self, rows: Tensor) -> None:
        self.requests.append(rows)
        self.clock.now += self.seconds * len(self.requests)


def test_ratios_compare_times_of_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios stay constant while the machine slows down."""
    clock = Clock()
    monkeypatch.setattr("dgl_rbm.evaluation.timing.time", clock)
    quick, slow = TimedModel(clock, 1e-6), TimedModel(clock, 3e-6)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    times = interleaved_times({"quick": quick, "slow": slow}, 20, repeats=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert (times["quick"].single_ratio, times["quick"].batch_ratio) == (1.0, 1.0)
    assert times["slow"].single_ratio == pytest.approx(3)
    assert times["slow"].batch_ratio == pytest.approx(3)
    # 5 warm-up and 20 timed single requests (6th to 25th), then 5 warm-up and 5 timed batches (31st to 35th).
    assert times["quick"].single_us == pytest.approx((15 + 16) / 2)
    assert times["quick"].batch_us == pytest.approx(33 / 1024)
    assert all(torch.equal(a, b) for a, b in zip(quick.requests, slow.requests, strict=True))
    assert [len(rows) for rows in quick.requests] == [1] * 25 + [1024] * 10
    assert max(int(rows.max()) for rows in quick.requests) < 20

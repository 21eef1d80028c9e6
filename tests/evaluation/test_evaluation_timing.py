"""Side-by-side times against a clock that is set by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm.evaluation.timing import student_times
from dgl_rbm.students.base import Student


class Clock:
    """Time that passes only while a student predicts."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Student):
    """A student whose predictions take a given time each, times a load that grows with every request."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(4, 2)
        self.clock, self.seconds, self.asked = clock, seconds, []

    def forward(self, x: Any) -> Tensor:
        self.asked.append(x)
        self.clock.now += self.seconds * len(self.asked)
        return torch.zeros(len(x), 2)


def test_times_are_compared_request_by_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine slows down all the time, the ratio of times for the same request does not change."""
    clock = Clock()
    monkeypatch.setattr("dgl_rbm.evaluation.timing.time", clock)
    quick, slow = Timed(clock, 1e-6), Timed(clock, 3e-6)
    quick.train()
    slow.eval()
    state = torch.get_rng_state()
    times = student_times({"quick": quick, "slow": slow}, torch.arange(80.0).reshape(20, 4), repeats=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert (times["quick"].single_ratio, times["quick"].batch_ratio) == (1.0, 1.0)
    assert times["slow"].single_ratio == pytest.approx(3)
    assert times["slow"].batch_ratio == pytest.approx(3)
    # 5 requests to warm up, then the 6th to the 25th; five more, then the 31st to the 35th of batches.
    assert times["quick"].single_us == pytest.approx((15 + 16) / 2)
    assert times["quick"].batch_us == pytest.approx(33 / 1024)
    assert all(torch.equal(a, b) for a, b in zip(quick.asked, slow.asked, strict=True))
    assert [len(rows) for rows in quick.asked] == [1] * 25 + [1024] * 10
    assert (quick.training, slow.training) == (True, False)

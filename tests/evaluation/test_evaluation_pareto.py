"""Verdicts against slow references."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.evaluation.pareto import ParetoPoint, best_within, verdicts

numbers = st.integers(0, 5)
drawn_points = st.lists(
    st.builds(
        lambda method, cost, val, test: ParetoPoint(method, f"{method}-{cost}", cost, val / 10, test / 10, 0.05),
        st.sampled_from(["mlp", "moe", "rbm"]),
        numbers,
        numbers,
        numbers,
    ),
    min_size=1,
    max_size=8,
)


@given(drawn_points, numbers)
def test_best_within_uses_validation_accuracy_only(points: list[ParetoPoint], budget: int) -> None:
    found = best_within(points, budget)
    affordable = [point for point in points if point.cost <= budget]
    if not affordable:
        assert found is None
        return
    assert found in affordable
    assert found.val == max(point.val for point in affordable)
    assert found.cost == min(point.cost for point in affordable if point.val == found.val)
    # Other test accuracies do not change the choice.
    hidden = [ParetoPoint(p.method, p.name, p.cost, p.val, 0.0, p.std) for p in points]
    same = best_within(hidden, budget)
    assert same is not None
    assert (same.method, same.name, same.val) == (found.method, found.name, found.val)


@given(drawn_points)
def test_verdicts_at_every_budget(points: list[ParetoPoint]) -> None:
    own = [point for point in points if point.method == "rbm"]
    found = {verdict.budget: verdict for verdict in verdicts(points)}
    expected = {point.cost for point in points if own and point.cost >= min(p.cost for p in own)}
    assert set(found) == expected
    for budget, verdict in found.items():
        rivals = []
        for method in ("mlp", "moe"):
            point = best_within([p for p in points if p.method == method], budget)
            rivals += [] if point is None else [point.test]
        assert verdict.ours == best_within(own, budget)
        gap = max(rivals) - verdict.ours.test if rivals else 0.0
        assert verdict.gap == pytest.approx(gap)
        assert verdict.on_front == all(verdict.ours.test >= test for test in rivals)
        assert verdict.within_std == (gap <= 0.05 or verdict.on_front)


def test_verdicts_by_hand() -> None:
    points = [
        ParetoPoint("mlp", "mlp-1", 10, 0.80, 0.78, 0.01),
        ParetoPoint("mlp", "mlp-2", 20, 0.90, 0.86, 0.02),
        ParetoPoint("mlp", "mlp-3", 30, 0.85, 0.95, 0.02),
        ParetoPoint("rbm", "rbm-1", 15, 0.84, 0.84, 0.04),
        ParetoPoint("rbm", "rbm-2", 40, 0.83, 0.99, 0.01),
    ]
    # Validation never selects rbm-2 or mlp-3, although they have the highest test accuracy.
    by_hand = [
        (15, "rbm-1", "mlp-1", -0.06, True, True),
        (20, "rbm-1", "mlp-2", 0.02, False, True),
        (30, "rbm-1", "mlp-2", 0.02, False, True),
        (40, "rbm-1", "mlp-2", 0.02, False, True),
    ]
    for verdict, (budget, ours, best, gap, front, within) in zip(verdicts(points), by_hand, strict=True):
        assert verdict.best is not None
        assert (verdict.budget, verdict.ours.name, verdict.best.name) == (budget, ours, best)
        assert verdict.gap == pytest.approx(gap)
        assert (verdict.on_front, verdict.within_std) == (front, within)
    # √((0.005² + 0.005²) / 2) = 0.005 < 0.02.
    steady = [ParetoPoint(p.method, p.name, p.cost, p.val, p.test, 0.005) for p in points]
    assert [verdict.within_std for verdict in verdicts(steady)] == [True, False, False, False]
    single = [ParetoPoint(p.method, p.name, p.cost, p.val, p.test, math.nan) for p in points]
    assert [verdict.within_std for verdict in verdicts(single)] == [True, None, None, None]
    alone = verdicts(points[3:])
    assert [(verdict.best, verdict.gap, verdict.on_front) for verdict in alone] == [(None, 0.0, True)] * 2
    assert verdicts(points[:3]) == []
    assert [verdict.budget for verdict in verdicts(points, budgets=[5, 25])] == [25]

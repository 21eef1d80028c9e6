"""Accuracy–cost trade-off: the most accurate method within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ParetoPoint", "Verdict", "best_within", "verdicts"]


@dataclass(frozen=True)
class ParetoPoint:
    """Accuracy and cost of a method at one model size.

    Attributes
    ----------
    method, name : str
        Name of the method, and name of the method at this size.
    cost : float
        Number of parameters, multiply-adds, or a time.
    val, test : float
        Mean accuracies.
    std : float
        Standard deviation of `test` over the seeds; NaN for a single seed.
    """

    method: str
    name: str
    cost: float
    val: float
    test: float
    std: float


@dataclass(frozen=True)
class Verdict:
    """Comparison of one method with all others at one budget.

    Attributes
    ----------
    budget : float
        Upper limit of the cost.
    ours : ParetoPoint
        Point of the judged method.
    best : ParetoPoint or None
        Point with the highest test accuracy among the other methods; None if no other method fits the budget.
    gap : float
        ``best.test - ours.test``: negative if `ours` is more accurate, 0 if `best` is None.
    on_front : bool
        Whether no other method is more accurate within this budget.
    within_std : bool or None
        Whether `gap` is at most the pooled standard deviation √((s² + s'²) / 2); None if that is NaN.
    """

    budget: float
    ours: ParetoPoint
    best: ParetoPoint | None
    gap: float
    on_front: bool
    within_std: bool | None


def best_within(points: Iterable[ParetoPoint], budget: float) -> ParetoPoint | None:
    """Return the point with the highest validation accuracy within `budget`, or None; ties go to the lowest cost.

    Test accuracies are not used, so that a method with many sizes has no advantage.
    """
    affordable = [point for point in points if point.cost <= budget]
    return min(affordable, key=lambda point: (-point.val, point.cost)) if affordable else None


def verdicts(
    points: Sequence[ParetoPoint], method: str = "rbm", budgets: Iterable[float] | None = None
) -> list[Verdict]:
    """Compare a method with all others at several budgets.

    At each budget, validation accuracy selects one size of each method among those within the budget.

    Parameters
    ----------
    points : sequence of ParetoPoint
        Points of all methods, with one kind of cost.
    method : str
        Method to judge.
    budgets : iterable of float, optional
        Costs of all points by default. Budgets below the cheapest point of `method` are skipped.
    """
    own = [point for point in points if point.method == method]
    others = sorted({point.method for point in points} - {method})
    result = []
    for budget in sorted({point.cost for point in points} if budgets is None else set(budgets)):
        ours = best_within(own, budget)
        if ours is None:
            continue
        rivals = [best_within([point for point in points if point.method == other], budget) for other in others]
        best = max((point for point in rivals if point is not None), key=lambda point: point.test, default=None)
        gap = 0.0 if best is None else best.test - ours.test
        spread = 0.0 if best is None else math.sqrt((ours.std**2 + best.std**2) / 2)
        # A method that is ahead needs no standard deviation.
        within = True if gap <= 0 else None if math.isnan(spread) else gap <= spread
        result.append(Verdict(budget, ours, best, gap, gap <= 0, within))
    return result

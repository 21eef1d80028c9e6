"""Accuracy against cost: which method gives the most for a budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ParetoPoint", "Verdict", "best_within", "pareto_front", "verdicts"]


@dataclass(frozen=True)
class ParetoPoint:
    """A method at one size.

    Attributes
    ----------
    method, name : str
        The method, and the method at this size.
    cost : float
        Parameters, multiply-adds or a time.
    val, test : float
        Mean accuracies.
    std : float
        Standard deviation of `test` over the seeds; nan of a single one.
    """

    method: str
    name: str
    cost: float
    val: float
    test: float
    std: float


@dataclass(frozen=True)
class Verdict:
    """How one method stands beside the others at a budget.

    Attributes
    ----------
    budget : float
        The most that may be spent.
    ours : ParetoPoint
        The method's point.
    best : ParetoPoint or None
        Of the points of the other methods the one with the highest test accuracy, None where they have none.
    gap : float
        How far `ours` is below it; negative where it is above, 0 where there is no other.
    on_front : bool
        Whether no other method gives more for this budget.
    within_std : bool or None
        Whether `gap` is at most the standard deviation of the two together, √((s² + s'²) / 2); None where it is not
        known.
    """

    budget: float
    ours: ParetoPoint
    best: ParetoPoint | None
    gap: float
    on_front: bool
    within_std: bool | None


def pareto_front(points: Iterable[ParetoPoint]) -> list[ParetoPoint]:
    """Return the points that no other one beats: none costs no more and is more accurate, or costs less and is as good.

    In the order of their costs.
    """
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.test)):
        if not front or point.test > front[-1].test or (point.cost, point.test) == (front[-1].cost, front[-1].test):
            front.append(point)
    return front


def best_within(points: Iterable[ParetoPoint], budget: float) -> ParetoPoint | None:
    """Return the point with the highest mean validation accuracy that costs no more than `budget`.

    Of equal ones the cheapest; None where all cost more. Test accuracies play no part, so that a method with many sizes
    has no advantage.
    """
    affordable = [point for point in points if point.cost <= budget]
    return min(affordable, key=lambda point: (-point.val, point.cost)) if affordable else None


def verdicts(
    points: Sequence[ParetoPoint], method: str = "rbm", budgets: Iterable[float] | None = None
) -> list[Verdict]:
    """Return how a method stands beside the others at several budgets.

    At each budget every method is there with the size that validation picks among those that it can afford.

    Parameters
    ----------
    points : sequence of ParetoPoint
        Of all methods, with costs of one kind.
    method : str
        The method that is judged.
    budgets : iterable of float, optional
        The costs of all points by default. Budgets below the cheapest point of `method` are left out.
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
        # Being ahead needs no standard deviation.
        within = True if gap <= 0 else None if math.isnan(spread) else gap <= spread
        result.append(Verdict(budget, ours, best, gap, gap <= 0, within))
    return result

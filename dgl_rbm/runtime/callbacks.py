"""Callbacks of a run, and the time budget as one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import inf, nan
from numbers import Real

from dgl_rbm.errors import ConfigError, TimeBudgetError, shown

__all__ = ["PATIENCE_WITHIN_A_STEP", "Callback", "TimeBudget"]

# Seconds that the current step may still take after a request to stop; a longer one is interrupted and repeated later.
PATIENCE_WITHIN_A_STEP = 10.0


class Callback:
    """Base of the callbacks: methods called at the stages and steps of a run; all do nothing by default."""

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        """Called when `stage` starts; it takes at most `total` steps, counted in `unit`."""

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        """Called after `done` steps of `stage`; `metrics` are those of the last step."""

    def on_substep(self, stage: str, done: int, total: int) -> None:
        """Called within a step of `stage`, after `done` of its `total` parts, such as the batches of an epoch."""

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        """Called when `stage` ends, after `seconds`; `finished` is False if an exception ended it."""

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        """Called when `stage` is loaded from a checkpoint; it took `seconds` when it ran."""


class TimeBudget(Callback):
    """Stops a run when its time is used up: between two steps, or within a long step.

    Parameters
    ----------
    hours : float
        Wall-clock time from now on.
    patience : float
        Seconds that the current step may still take.
    clock : callable
        Returns the time in seconds.

    Raises
    ------
    ConfigError
        If `hours` is not above 0.
    """

    def __init__(
        self,
        hours: float,
        *,
        patience: float = PATIENCE_WITHIN_A_STEP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = hours
        try:
            hours = float(hours) if isinstance(hours, Real) else nan
        except OverflowError:
            hours = inf
        if not hours > 0:
            raise ConfigError(f"max_hours is {shown(given)}; expected a number above 0, such as 11.5.")
        self.hours, self.patience, self._clock = hours, patience, clock
        self._deadline = clock() + 3600 * hours
        self._total = 0

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self._check(stage, self._deadline)
        self._total = total

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        # After the last step the stage is saved first; the run stops at the start of the next stage.
        if done < self._total:
            self._check(stage, self._deadline)

    def on_substep(self, stage: str, done: int, total: int) -> None:
        self._check(stage, self._deadline + self.patience)

    def _check(self, stage: str, deadline: float) -> None:
        if self._clock() >= deadline:
            raise TimeBudgetError(
                f"The time budget of {self.hours:g} hours was used up in the stage '{stage}'.",
                hint="Run the same command with the same folder again to continue from there.",
            )

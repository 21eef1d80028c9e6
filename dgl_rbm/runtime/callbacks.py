"""Hooks into a run: subclass `Callback` and override what is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from dgl_rbm.errors import ConfigError, TimeBudgetError

__all__ = ["PATIENCE_WITHIN_A_STEP", "Callback", "TimeBudget"]

# Seconds that a step may still take, once a run is to stop, before it is given up and done again later.
PATIENCE_WITHIN_A_STEP = 10.0


class Callback:
    """Told of the stages and steps of a run; every method does nothing by default."""

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        """`stage` begins and will take at most `total` steps, each one `unit`."""

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        """`done` steps of `stage` are done; `metrics` belong to the last one."""

    def on_substep(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of the next step of `stage` are done, such as batches of an epoch."""

    def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
        """`stage` ended after `seconds`; `finished` is False where an exception ended it."""

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        """`stage` was taken from a checkpoint; it took `seconds` when it ran."""


class TimeBudget(Callback):
    """Stops a run once its time is used up: between two steps, or within one that takes much longer.

    Parameters
    ----------
    hours : float
        Wall time from now on.
    patience : float
        Seconds that the step under way may still take.
    clock : callable
        Returns seconds; `time.monotonic` but for tests.

    Raises
    ------
    ConfigError
        Where `hours` is not above zero.
    """

    def __init__(
        self,
        hours: float,
        *,
        patience: float = PATIENCE_WITHIN_A_STEP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not hours > 0:
            raise ConfigError(f"max_hours is {hours}; expected a number above 0, such as 11.5.")
        self.hours, self.patience, self._clock = hours, patience, clock
        self._deadline = clock() + 3600 * hours
        self._total = 0

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self._check(stage, self._deadline)
        self._total = total

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        # A stage whose last step is done is kept whole; the run stops where the next one starts.
        if done < self._total:
            self._check(stage, self._deadline)

    def on_substep(self, stage: str, done: int, total: int) -> None:
        self._check(stage, self._deadline + self.patience)

    def _check(self, stage: str, deadline: float) -> None:
        if self._clock() >= deadline:
            raise TimeBudgetError(
                f"The {self.hours:g} hours given to the run were used up in the stage '{stage}'.",
                hint="Started again with the same options and folder, it continues where it stopped.",
            )

"""Hooks into a run: subclass `Callback` and override what is needed."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Callback"]


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

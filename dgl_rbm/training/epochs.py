"""Training loop of teachers and students: epochs, best epoch on validation nodes, early stopping, checkpoints."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from dgl_rbm.runtime.checkpoint import restore_rng_state, rng_state
from dgl_rbm.runtime.context import RunContext

__all__ = ["EpochLoop", "patience_in_epochs"]

_SECONDS_BETWEEN_CHECKPOINTS = 20.0
_PATIENCE_STEPS, _FEWEST_PATIENCE_EPOCHS = 100, 20


def patience_in_epochs(patience: int | None, steps_per_epoch: int) -> int:
    """Return `patience` in epochs; None stands for 100 steps of the optimiser, and at least 20 epochs."""
    return patience or max(_FEWEST_PATIENCE_EPOCHS, math.ceil(_PATIENCE_STEPS / steps_per_epoch))


class EpochLoop(ABC):
    """Base class of a training run, whose checkpoints hold its whole state: a killed run resumes to the same result.

    Parameters
    ----------
    stage : str
        Name of the run's stage.
    module : nn.Module
        Trained in place and left in its best epoch.
    optimizer : torch.optim.Optimizer
        Steps its parameters.
    context : RunContext
        Seed, callbacks and checkpoints.
    epochs : int
        Maximum number of epochs.
    patience : int
        Stop after this many epochs without a better validation score.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    best_epoch : int
        The first epoch with the best validation score, counted from 1; 0 before any candidate.
    best_score : float
        Its validation score; higher is better.
    """

    def __init__(
        self,
        stage: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        context: RunContext,
        *,
        epochs: int,
        patience: int,
    ) -> None:
        self.stage, self.module, self.optimizer, self.context = stage, module, optimizer, context
        self.epochs, self.patience = epochs, patience
        self.epoch = 0
        self.best_epoch = 0
        self.best_score = -math.inf
        self._best_state: dict[str, Any] = {}
        self._evaluated_epoch = 0
        self._last_checkpoint = time.monotonic()
        self._started = time.perf_counter()
        self._seconds_before = 0.0

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train one epoch; return values to record, such as ``loss``."""

    @abstractmethod
    def end_epoch(self) -> dict[str, float]:
        """Evaluate the epoch if it is due and pass the score to `note`; return values to record."""

    def extra_state(self) -> dict[str, Any]:
        """Return the state for a checkpoint beyond module, optimiser and random generators."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""

    @property
    def patience_starts_at(self) -> int:
        """The epoch from which patience counts at the earliest, as the targets still change before it."""
        return 0

    def run(self) -> None:
        """Train until the last epoch or until early stopping."""
        with self.context.stage(self.stage, self.epochs) as stage:
            self._started = time.perf_counter()
            self._resume()
            while self.epoch < self.epochs and not self._out_of_patience():
                metrics = self.train_epoch()
                self.epoch += 1
                metrics |= self.end_epoch()
                try:
                    stage.step(self.epoch, **metrics)
                except BaseException:
                    # Between two epochs the state is complete, so a run that is stopped here loses nothing.
                    self._checkpoint()
                    raise
                if time.monotonic() - self._last_checkpoint > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._checkpoint()
            # `RunContext.cached` deletes it once the finished part is saved.
            self._checkpoint()
        if self.best_epoch:
            self.module.load_state_dict(self._best_state)

    def note(self, score: float, *, candidate: bool = True) -> bool:
        """Record this epoch's validation score; if it is the best so far, keep the module's state and return True."""
        self._evaluated_epoch = self.epoch
        best = candidate and score > self.best_score
        if best:
            self.best_score, self.best_epoch = score, self.epoch
            self._best_state = copy.deepcopy(self.candidate().state_dict())
        return best

    def candidate(self) -> nn.Module:
        """Return the module that is evaluated after an epoch and kept if it is the best: `module`, or its average."""
        return self.module

    @property
    def _progress(self) -> str:
        return f"{self.stage}-progress"

    def _out_of_patience(self) -> bool:
        since = max(self.best_epoch, self.patience_starts_at)
        return self.best_epoch > 0 and self._evaluated_epoch - since >= self.patience

    def _checkpoint(self) -> None:
        if not self.context.checkpoints.enabled:
            return
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "evaluated": self._evaluated_epoch,
            "best": [self.best_epoch, self.best_score, self._best_state],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "extra": self.extra_state(),
            "rng": rng_state(),
            "seconds": self._seconds_before + time.perf_counter() - self._started,
            "history": [entry for entry in self.context.history if entry["stage"] == self.stage],
        }
        self.context.checkpoints.save(self._progress, state)
        self._last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        state = self.context.checkpoints.load(self._progress)
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.load_extra_state(state["extra"])
        self.epoch, self._evaluated_epoch = state["epoch"], state["evaluated"]
        self.best_epoch, self.best_score, self._best_state = state["best"]
        self.context.history.extend(state["history"])
        self._seconds_before = state["seconds"]
        self.context.seconds[self.stage] = self.context.seconds.get(self.stage, 0.0) + self._seconds_before
        restore_rng_state(state["rng"])

"""Averages of a module's weights over its training steps."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["AveragedModule"]


class AveragedModule:
    """An exponential moving average of a module's state, as a module of its own (Polyak and Juditsky, 1992).

    Step t, counted from 1, has the decay ``min(decay, t / (t + 9))``, so that the nearly random weights of the first
    steps soon lose their influence. Buffers that are not floating point are copied.

    Parameters
    ----------
    module : nn.Module
        The trained module.
    decay : float
        In ``(0, 1)``.

    Attributes
    ----------
    average : nn.Module
        A copy of `module` with the averaged state, in evaluation mode.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.steps = 0
        self.average = copy.deepcopy(module).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the module's state after a step."""
        self.steps += 1
        share = 1 - min(self.decay, self.steps / (self.steps + 9))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(_tensors(self.average), _tensors(self.module), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, share)

    def restart(self) -> None:
        """Restart the average from the module's present state."""
        self.steps = 0
        self.average = copy.deepcopy(self.module).eval()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"steps": self.steps, "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps = state["steps"]
        self.average.load_state_dict(state["average"])


def _tensors(module: nn.Module) -> list[Tensor]:
    return [cast(Tensor, value) for value in module.state_dict(keep_vars=True).values()]

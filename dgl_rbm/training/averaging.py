"""Averages of a module's weights over its training steps."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["AveragedModule"]


class AveragedModule:
    """An exponential moving average of a module's state, as a module of its own (Polyak and Juditsky, 1992).

    Step t, counted from 1, keeps the share ``min(decay, t / (t + 9))`` of the average, so that the first steps, whose
    weights are still nearly random, are soon forgotten. Buffers that are not floating point are copied.

    Parameters
    ----------
    module : nn.Module
        What is trained.
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
        """Take in the module's state after a step."""
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
        """Begin anew from the module as it is now."""
        self.steps = 0
        self.average = copy.deepcopy(self.module).eval()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"steps": self.steps, "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.steps = state["steps"]
        self.average.load_state_dict(state["average"])


def _tensors(module: nn.Module) -> list[Tensor]:
    return [cast(Tensor, value) for value in module.state_dict(keep_vars=True).values()]

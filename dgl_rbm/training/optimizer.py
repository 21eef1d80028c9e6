"""Adam for teachers and students."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["make_adam"]

# The fused step on CPUs came with torch 2.4.
_FUSED_ON_CPU = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
_COUNTS_WRITES = hasattr(torch.autograd.graph, "increment_version")


def make_adam(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Return Adam with an L2 penalty, in torch's fused form if it is available.

    The fused form reads parameters, gradients and moments once instead of a dozen times; its result differs from the
    plain form's by rounding.
    """
    listed = list(parameters)
    # The fused step assumes that moments have their parameter's memory layout, which those of a checkpoint may lack.
    fused = _COUNTS_WRITES and all(
        parameter.is_contiguous() and (parameter.device.type == "cuda" or _FUSED_ON_CPU) for parameter in listed
    )
    optimizer = torch.optim.Adam(listed, lr=lr, weight_decay=weight_decay, fused=fused)
    if fused:
        optimizer.register_step_post_hook(_count_writes)
    return optimizer


def _count_writes(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Let torch know that parameters were written, which the fused step does not; see `DerivedCache`."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            torch.autograd.graph.increment_version(parameter)

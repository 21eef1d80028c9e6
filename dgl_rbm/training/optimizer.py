"""The optimiser that teachers and students share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["make_adam"]

# The fused step on CPUs came with torch 2.4.
_FUSED_ON_CPU = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def make_adam(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Return Adam with an L2 penalty, in torch's fused form where there is one.

    The fused form passes over parameters, gradients and moments once instead of a dozen times; its result differs
    from the plain form's by rounding.
    """
    listed = list(parameters)
    fused = all(parameter.device.type == "cuda" or _FUSED_ON_CPU for parameter in listed)
    return torch.optim.Adam(listed, lr=lr, weight_decay=weight_decay, fused=fused)

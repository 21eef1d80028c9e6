"""Adam and AdamW for teachers and students, with the options of learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from dgl_rbm.config import StrictConfig

__all__ = ["OptimizerConfig", "make_optimizer", "set_learning_rate"]

# The fused step on CPUs came with torch 2.4.
_FUSED_ON_CPU = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
_COUNTS_WRITES = hasattr(torch.autograd.graph, "increment_version")


class OptimizerConfig(StrictConfig):
    """Options of the optimiser."""

    lr: float = Field(default=0.01, gt=0, description="Learning rate, after any warm-up.")
    optimizer: Literal["adam", "adamw"] = Field(
        default="adamw",
        description="'adamw', whose weight decay is decoupled from the gradients, or 'adam', with an L2 penalty.",
    )
    weight_decay: float = Field(
        default=0.003,
        ge=0,
        description="For 'adamw' the share by which an epoch at the full learning rate shrinks the weights, whatever "
        "the number of steps in an epoch; for 'adam' the factor of the L2 penalty.",
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Steps over which the learning rate rises from 0 to `lr` at the start."
    )


def make_optimizer(
    parameters: Iterable[nn.Parameter], options: OptimizerConfig, *, steps_per_epoch: int = 1
) -> torch.optim.Optimizer:
    """Return the optimiser that `options` describe, in torch's fused form if it is available.

    The fused form reads parameters, gradients and moments once instead of a dozen times; its result differs from the
    plain form's by rounding.

    The weight decay of AdamW (Loshchilov and Hutter, ICLR 2019) is set per epoch: its time scale in epochs carries over
    between graphs of different sizes (Wang and Aitchison, "How to set AdamW's weight decay as you scale model and
    dataset size", 2024), whereas a decay per step would weaken or strengthen with the number of batches.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        To optimise.
    options : OptimizerConfig
        Kind, learning rate and weight decay.
    steps_per_epoch : int
        Number of optimiser steps in an epoch.
    """
    listed = list(parameters)
    # The fused step assumes that moments have their parameter's memory layout, which those of a checkpoint may lack.
    fused = _COUNTS_WRITES and all(
        parameter.is_contiguous() and (parameter.device.type == "cuda" or _FUSED_ON_CPU) for parameter in listed
    )
    optimizer: torch.optim.Optimizer
    if options.optimizer == "adamw":
        decay = options.weight_decay / (options.lr * steps_per_epoch)
        optimizer = torch.optim.AdamW(listed, lr=options.lr, weight_decay=decay, fused=fused)
    else:
        optimizer = torch.optim.Adam(listed, lr=options.lr, weight_decay=options.weight_decay, fused=fused)
    if fused:
        optimizer.register_step_post_hook(_count_writes)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, options: OptimizerConfig, step: int, factor: float = 1) -> None:
    """Set the learning rate of the optimiser's step `step`, counted from 0: warm-up times `factor`."""
    warm = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
    for group in optimizer.param_groups:
        group["lr"] = options.lr * warm * factor


def _count_writes(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Let torch know that parameters were written, which the fused step does not; see `DerivedCache`."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            torch.autograd.graph.increment_version(parameter)

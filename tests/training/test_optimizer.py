"""The fused step against the plain one."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from torch import nn

from dgl_rbm.training.optimizer import OptimizerConfig, make_optimizer, set_learning_rate

NO_DECAY = OptimizerConfig(lr=0.1, weight_decay=0.0)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_steps_equal_those_of_the_plain_optimizer_up_to_rounding(kind: Literal["adam", "adamw"]) -> None:
    torch.manual_seed(0)
    start = torch.randn(50, 30)
    ends = []
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    options = OptimizerConfig(optimizer=kind, lr=0.1, weight_decay=0.03)
    for own in (True, False):
        parameter = nn.Parameter(start.clone())
        if own:
            optimizer = make_optimizer([parameter], options, steps_per_epoch=3)
        else:
            # The weights shrink by 0.03 in an epoch of three steps.
            decay = 0.03 if kind == "adam" else 0.03 / 3 / 0.1
            optimizer = plain([parameter], lr=0.1, weight_decay=decay)
        for step in range(5):
            parameter.grad = torch.sin(parameter.detach() + step)
            optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(ends[0], start)


def test_parameters_of_any_layout_resume_to_the_same_result() -> None:
    torch.manual_seed(0)
    start = torch.randn(3, 5)

    def steps(parameter: nn.Parameter, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            parameter.grad = torch.sin(3 * parameter.detach())
            optimizer.step()

    whole = nn.Parameter(start.clone().t())
    optimizer = make_optimizer([whole], NO_DECAY)
    steps(whole, optimizer, 2)
    stopped = nn.Parameter(whole.detach().t().clone().t())
    # As a checkpoint gives tensors back: contiguous.
    state = copy.deepcopy(optimizer.state_dict())
    for name, value in state["state"][0].items():
        state["state"][0][name] = value.contiguous()
    resumed = make_optimizer([stopped], NO_DECAY)
    resumed.load_state_dict(state)
    steps(whole, optimizer, 2)
    steps(stopped, resumed, 2)
    torch.testing.assert_close(stopped, whole)


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 50])
@pytest.mark.parametrize("lr", [0.1, 0.001])
def test_an_epoch_shrinks_weights_without_gradient_by_the_decay(steps_per_epoch: int, lr: float) -> None:
    parameter = nn.Parameter(torch.full((3,), 2.0))
    optimizer = make_optimizer(
        [parameter], OptimizerConfig(optimizer="adamw", lr=lr, weight_decay=0.05), steps_per_epoch=steps_per_epoch
    )
    for _ in range(steps_per_epoch):
        parameter.grad = torch.zeros(3)
        optimizer.step()
    torch.testing.assert_close(
        parameter.detach(), torch.full((3,), 2 * (1 - 0.05 / steps_per_epoch) ** steps_per_epoch)
    )


def test_the_learning_rate_rises_over_the_warm_up() -> None:
    options = OptimizerConfig(lr=0.2, warmup_steps=4)
    optimizer = make_optimizer([nn.Parameter(torch.zeros(1))], options)
    rates = []
    for step in range(6):
        set_learning_rate(optimizer, options, step, factor=0.5)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])

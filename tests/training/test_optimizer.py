"""The fused step against the plain one."""

from __future__ import annotations

import copy

import torch
from torch import nn

from dgl_rbm.training.optimizer import make_adam


def test_steps_equal_those_of_plain_adam_up_to_rounding() -> None:
    torch.manual_seed(0)
    start = torch.randn(50, 30)
    ends = []
    for make in (make_adam, torch.optim.Adam):
        parameter = nn.Parameter(start.clone())
        optimizer = make([parameter], lr=0.1, weight_decay=0.01)
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
    optimizer = make_adam([whole], lr=0.1, weight_decay=0.0)
    steps(whole, optimizer, 2)
    stopped = nn.Parameter(whole.detach().t().clone().t())
    # As a checkpoint gives tensors back: contiguous.
    state = copy.deepcopy(optimizer.state_dict())
    for name, value in state["state"][0].items():
        state["state"][0][name] = value.contiguous()
    resumed = make_adam([stopped], lr=0.1, weight_decay=0.0)
    resumed.load_state_dict(state)
    steps(whole, optimizer, 2)
    steps(stopped, resumed, 2)
    torch.testing.assert_close(stopped, whole)

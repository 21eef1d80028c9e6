"""The fused step against the plain one."""

from __future__ import annotations

import torch
from torch import nn

from dgl_rbm.training.optimizer import make_adam


def test_steps_are_those_of_plain_adam_up_to_rounding() -> None:
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

"""Averaged weights against the definition of the average."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dgl_rbm.training.averaging import AveragedModule


def small_module() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module.register_buffer("phase", torch.tensor(False))
    return module


@settings(max_examples=25, deadline=None)
@given(decay=st.floats(0.01, 0.99), steps=st.integers(1, 30))
def test_the_average_follows_its_definition(decay: float, steps: int) -> None:
    torch.manual_seed(0)
    module = small_module()
    averaged = AveragedModule(module, decay)
    expected = {name: value.double() for name, value in module.state_dict().items() if value.is_floating_point()}
    for t in range(1, steps + 1):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        averaged.update()
        kept = min(decay, t / (t + 9))
        for name, value in expected.items():
            expected[name] = kept * value + (1 - kept) * module.state_dict()[name]
    state = averaged.average.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(state[name].double(), value, rtol=1e-4, atol=1e-5)


def test_integer_buffers_are_copied_and_the_module_is_unchanged() -> None:
    module = small_module().train()
    averaged = AveragedModule(module, 0.9)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    averaged.average.phase.fill_(True)
    assert not bool(module.phase)
    averaged.update()
    assert not bool(averaged.average.phase)
    assert module.training
    assert not averaged.average.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_restart_and_checkpoint() -> None:
    torch.manual_seed(0)
    module = small_module()
    averaged, again = AveragedModule(module, 0.9), AveragedModule(small_module(), 0.9)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    averaged.update()
    again.load_state_dict(averaged.state_dict())
    again.module.load_state_dict(module.state_dict())
    for average in (averaged, again):
        average.update()
    for name, value in averaged.average.state_dict().items():
        assert torch.equal(value, again.average.state_dict()[name])
    averaged.restart()
    assert averaged.steps == 0
    assert torch.equal(averaged.average[0].weight, module[0].weight)

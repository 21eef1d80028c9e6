"""Fixtures and guards for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# Noisy machines make single examples slow; a deadline would fail tests for the weather.
settings.register_profile("dgl-rbm", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("dgl-rbm")

# The graphs here are tiny: a second thread costs more than it brings, above all where tests run side by side.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_trace_in_global_state() -> Iterator[None]:
    """Fail a test during which the package changed torch's or NumPy's globals."""
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), np.geterr())
    yield
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), np.geterr())
    assert after == before, "a global setting of torch or NumPy was left changed"


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real graphs, or skip where `DGL_RBM_DATA` names none."""
    folder = os.environ.get("DGL_RBM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DGL_RBM_DATA does not name a folder of real graphs")
    return Path(folder)

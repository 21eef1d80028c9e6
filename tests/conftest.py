"""Fixtures and checks for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from dgl_rbm.evaluation import latency

# A deadline would fail tests at random on a busy machine.
settings.register_profile("dgl-rbm", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("dgl-rbm")

# The graphs here are tiny: a second thread costs more than it gains, above all if tests run in several processes.
torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite on every core, up to eight, and a part of it in this process, which starts faster."""
    cores = min(os.cpu_count() or 1, 8)
    return cores if config.args == config.getini("testpaths") and cores > 1 else 0


@pytest.fixture(scope="session", autouse=True)
def few_timed_requests() -> Iterator[None]:
    """Time ten requests at the end of a run; the usual hundreds take longer than the run itself on tiny graphs."""
    with pytest.MonkeyPatch.context() as patch:
        for measure in (latency.student_latency, latency.teacher_latency):
            patch.setitem(measure.__kwdefaults__, "repeats", 10)  # type: ignore[arg-type]
        yield


@pytest.fixture(autouse=True)
def no_trace_in_global_state() -> Iterator[None]:
    """Fail a test during which the package changed torch's or NumPy's globals."""
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), np.geterr())
    yield
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), np.geterr())
    assert after == before, "a global setting of torch or NumPy was left changed"


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real graphs, or skip the test if `DGL_RBM_DATA` names none."""
    folder = os.environ.get("DGL_RBM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DGL_RBM_DATA does not name a folder of real graphs")
    return Path(folder)

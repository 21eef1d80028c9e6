"""A graph and options on which every study takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgl_rbm.experiments.options import ExperimentOptions

TINY = (
    "dataset.num_nodes=80",
    "dataset.num_features=6",
    "teacher.hidden_dim=8",
    "teacher.training.epochs=3",
    "training.epochs=3",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., ExperimentOptions]:
    """Return options of a study on a graph of 80 nodes, run in this process."""

    def make(*overrides: str, **changes: Any) -> ExperimentOptions:
        options = {
            "out": tmp_path,
            "datasets": ["synthetic"],
            "settings": ["transductive"],
            "seeds": [0, 1],
            "device": "cpu",
            "jobs": 0,
        }
        return ExperimentOptions(**{**options, "overrides": [*TINY, *overrides], **changes})  # type: ignore[arg-type]

    return make

"""A run saved before the package was laid out in rooms: it loads, predicts and evaluates as it did then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dgl_rbm import Run
from dgl_rbm.config import read_yaml
from dgl_rbm.run.config import resolve_config

FORMER = Path(__file__).resolve().parents[1] / "fixtures" / "run-of-0.1.0"


def test_it_predicts_what_it_predicted() -> None:
    expected = np.load(FORMER / "expected.npz")
    predictor = Run.load(FORMER).predictor
    found = predictor.predict_proba(expected["rows"], neighbors=[[0, 1], [2], []])
    np.testing.assert_allclose(found.numpy(), expected["probabilities"], rtol=1e-5, atol=1e-6)


def test_it_has_the_scores_that_it_had() -> None:
    before = json.loads((FORMER / "metrics.json").read_text())
    now = Run.load(FORMER).evaluate().model_dump(exclude_none=True)
    for role in ("teacher", "student"):
        for name in before[role].keys() & now[role].keys():
            assert now[role][name] == before[role][name], (role, name)
        assert {"test_accuracy", "val_accuracy"} <= before[role].keys() & now[role].keys()


def test_its_configuration_still_resolves() -> None:
    config = resolve_config(read_yaml(FORMER / "config.yaml"))
    assert (config.student.kind, config.teacher.kind, config.seed) == ("rbm", "sage", 3)
    # What it says now is what is read back from now on.
    assert resolve_config(config.to_values()) == config

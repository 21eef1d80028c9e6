"""Features of tables are found by name, whatever their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dgl_rbm import Distiller, Run, from_pandas
from dgl_rbm.data.requests import read_request
from dgl_rbm.errors import DataError, DataWarning

N = 60
NAMES = ["days", "views", "partner"]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(0)
    nodes = pd.DataFrame(generator.normal(size=(N, 3)) * [1, 10, 100], columns=NAMES)
    nodes.insert(0, "id", np.arange(N) + 1)
    nodes["label"] = np.where(nodes["days"] > 0, "yes", "no")
    ends = generator.integers(1, N + 1, size=(200, 2))
    return pd.DataFrame(ends, columns=["source", "target"]), nodes


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    edges, nodes = tables()
    task = from_pandas(edges, nodes, features=NAMES, split="10/5")
    assert task.feature_names == tuple(NAMES)
    teacher = {"kind": "sage", "hidden_dim": 4, "training": {"epochs": 2}}
    run = Distiller(teacher=teacher, encoder="none", training={"epochs": 2}, device="cpu").fit(task)
    return run.save(tmp_path_factory.mktemp("run") / "run")


def test_columns_in_another_order(saved: Path, tmp_path: Path) -> None:
    nodes = tables()[1]
    predictor = Run.load(saved).predictor
    expected = predictor.predict_proba(nodes[NAMES].to_numpy())
    torch.testing.assert_close(predictor.predict_proba(nodes[NAMES[::-1]]), expected)
    with pytest.warns(DataWarning, match=r"columns label, id of the table are no features"):
        found = predictor.predict_proba(nodes[["label", *NAMES[::-1], "id"]])
    torch.testing.assert_close(found, expected)
    # Columns of other names are taken in their order.
    torch.testing.assert_close(predictor.predict_proba(nodes[NAMES].rename(columns=str.upper)), expected)
    with pytest.raises(DataError, match=r"lacks the features days, partner"):
        predictor.predict_proba(nodes[["views"]].assign(a=1, b=2))
    nodes[NAMES[::-1]].to_csv(tmp_path / "rows.csv", index=False)
    request = read_request(tmp_path / "rows.csv", predictor)
    torch.testing.assert_close(predictor.student.predict_proba(request.inputs(predictor)), expected)

"""The student without parameters, alone and in a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.sparse as sp
import torch

from dgl_rbm import Distiller, Run
from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.run.config import resolve_config
from dgl_rbm.students.readout import Readout

F, C = 4, 3
RUN: dict[str, Any] = {
    "teacher": "none",
    "student": "readout",
    "encoder": {"kind": "label_propagation", "standardize": False, "weight": 1.0},
    "regularizer": "none",
}


def test_probabilities_are_the_scaled_scores() -> None:
    student = Readout(F + C, C, encoding_dim=C)
    scores = torch.tensor([[0.2, 0.6, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0]])
    features = torch.randn(3, F)
    expected = torch.tensor([[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.75, 0.0, 0.25]])
    dense = torch.cat([features, scores], dim=1)
    for rows in (dense, hstack(SparseRows.from_scipy(sp.csr_matrix(features.numpy())), scores)):
        torch.testing.assert_close(student.predict_proba(rows), expected, rtol=0, atol=1e-6)
    assert all(math.isfinite(value) for value in student.logits(dense).flatten().tolist())
    assert student.num_parameters() == student.num_active_parameters() == 0


@pytest.mark.parametrize("columns", [None, 0, C + 1])
def test_the_encoding_has_a_column_per_class(columns: int | None) -> None:
    with pytest.raises(ConfigError, match=r"one score per class.*for 3 classes"):
        Readout(F + (columns or 0), C, encoding_dim=columns)


def test_a_run_trains_nothing_and_is_saved(tmp_path: Any) -> None:
    run = Distiller(**RUN, device="cpu").fit("digits", latency_of=("student",))
    assert run.metrics.student.best_epoch == 0
    assert run.metrics.student.val_accuracy > 0.8
    run.save(tmp_path / "run")
    restored = Run.load(tmp_path / "run")
    assert run.task is not None
    rows, ids = run.task.features[:20], torch.arange(20)
    expected = run.student_logits[:20].argmax(dim=1)
    assert torch.equal(restored.predictor.predict(rows, node_ids=ids), expected)


def test_losses_and_standardised_columns_are_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match="nothing to train, so 'krd' has no effect"):
        resolve_config({**RUN, "teacher": "sage", "regularizer": "krd"})
    with pytest.raises(ConfigError, match=r"standardised columns(.|\n)*Set encoder.0.standardize to false"):
        resolve_config({**RUN, "encoder": "label_propagation"})
    for encoder in ("none", "diffusion", "auto", [RUN["encoder"], "diffusion"]):
        with pytest.raises(ConfigError, match=r"class scores of one encoder(.|\n)*Use label_propagation"):
            resolve_config({**RUN, "encoder": encoder})

"""The figure of a run: learning curves of both models, and expert utilisation of students that route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgl_rbm import Distiller
from dgl_rbm.experiments import run_figure
from dgl_rbm.experiments.run_figure import draw_run


@pytest.mark.parametrize(("student", "panels"), [("mlp", 2), ("rbm", 3)])
def test_panels_and_curves(student: str, panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = {"kind": "sage", "hidden_dim": 4, "training": {"epochs": 3}}
    options: dict[str, Any] = {"training": {"epochs": 3}, "encoder": "none", "device": "cpu"}
    run = Distiller(teacher=teacher, student=student, **options).fit(
        {"kind": "synthetic", "num_nodes": 150, "num_features": 4}
    )
    figures: list[Any] = []
    save = run_figure.save_figure
    monkeypatch.setattr(run_figure, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path))[1])
    path = draw_run(run, tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    assert len(figure.axes) == panels
    curve = figure.axes[0].lines[1].get_ydata().tolist()
    expected = [100 * entry["val_accuracy"] for entry in run.history if entry["stage"] == "student"]
    assert curve == pytest.approx(expected)
    if student == "rbm":
        assert sum(bar.get_height() for bar in figure.axes[2].patches) == pytest.approx(100)

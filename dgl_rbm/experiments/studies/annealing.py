"""How much the annealing of the memory's momentum matters: Table 10 of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.accuracy import AccuracyStudy
from dgl_rbm.experiments.studies.base import Choice
from dgl_rbm.experiments.summary import Places

__all__ = ["AnnealingStudy"]


class AnnealingStudy(AccuracyStudy):
    """RbM with Δ of equation 14 between 0, a momentum that stays as it is, and 0.9 (paper, appendix G)."""

    name = "annealing"
    title = "Annealing of the memory"
    summary = "RbM with Δ of 0, 0.05, 0.1, 0.5 and 0.9 (Table 10)."
    axis = "values of Δ"
    value_type = float
    default_values = (0.0, 0.05, 0.1, 0.5, 0.9)
    varies = ("student.annealing",)

    def check(self, value: Any) -> None:
        if not 0 <= value < 1:
            raise ValueError("expected 0 ≤ Δ < 1")

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [Choice(f"Δ = {value:g}", changes={"student": {"annealing": value}}) for value in self.values]

    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        return self.draw_by_value(test, val, names, out, x_label="Annealing Δ")

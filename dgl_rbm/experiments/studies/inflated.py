"""Whether wider baselines do what RbM does: Table 3 of the paper."""

from __future__ import annotations

from pathlib import Path

from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.accuracy import AccuracyStudy
from dgl_rbm.experiments.studies.base import Choice
from dgl_rbm.experiments.summary import Places

__all__ = ["InflatedStudy"]


class InflatedStudy(AccuracyStudy):
    """RbM beside GLNN+, KRD+, NOSMOG+ and CoHOp+, whose students are eight times as wide (paper, section 5.2)."""

    name = "inflated"
    title = "Baselines of eight times the width"
    summary = "RbM beside GLNN+, KRD+, NOSMOG+ and CoHOp+ (Table 3)."
    varies = ("student.kind", "student.width_factor")

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [Choice(name, method=name) for name in ("glnn+", "krd+", "nosmog+", "cohop+", "rbm")]

    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        return self.draw_by_category(test, names, out)

"""Whether students keep their order when the teacher changes: Tables 2 and 8 of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgl_rbm.errors import closest
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.accuracy import AccuracyStudy
from dgl_rbm.experiments.studies.base import Choice
from dgl_rbm.experiments.summary import Places
from dgl_rbm.registry import teachers

__all__ = ["TeachersStudy"]

_METHODS = ("krd", "rbm")


class TeachersStudy(AccuracyStudy):
    """KRD's perceptron and RbM, each from several teachers."""

    name = "teachers"
    title = "Other teachers"
    summary = "KRD and RbM from the teachers SAGE, GCN and APPNP (Tables 2 and 8)."
    axis = "teachers"
    default_values = ("sage", "gcn", "appnp")
    varies = ("teacher.kind",)

    def check(self, value: Any) -> None:
        for kind in value.split("+"):
            if kind not in teachers.names():
                near = closest(kind, teachers.names())
                guess = f"; did you mean '{near}'" if near else ""
                raise ValueError(f"there is no teacher '{kind}'{guess}; choices: {', '.join(teachers.names())}")

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [
            Choice(f"{method} from {teacher}", method, teacher=teacher)
            for teacher in self.values
            for method in _METHODS
        ]

    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        return self.draw_by_category(test, names, out)

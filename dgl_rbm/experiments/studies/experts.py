"""How many experts RbM needs: Figure 5 of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.accuracy import AccuracyStudy
from dgl_rbm.experiments.studies.base import Choice
from dgl_rbm.experiments.summary import Places

__all__ = ["ExpertsStudy"]


class ExpertsStudy(AccuracyStudy):
    """RbM with 3 to 8 experts in every layer, three of them active (paper, appendix D)."""

    name = "experts"
    title = "Number of experts"
    summary = "RbM with 3 to 8 experts, on test and on validation nodes (Figure 5)."
    axis = "numbers of experts"
    value_type = int
    default_values = (3, 4, 5, 6, 7, 8)
    varies = ("student.num_experts", "student.top_k")

    def check(self, value: Any) -> None:
        if value < 1:
            raise ValueError("expected at least 1")

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [
            # A row passes through three experts, or through all if there are fewer.
            Choice(f"{count} experts", changes={"student": {"num_experts": count, "top_k": min(3, count)}})
            for count in self.values
        ]

    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        return self.draw_by_value(test, val, names, out, x_label="Number of experts")

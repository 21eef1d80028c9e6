"""Which of RbM's three losses are needed: the ablation of Table 5 of the paper."""

from __future__ import annotations

from pathlib import Path

from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.accuracy import AccuracyStudy
from dgl_rbm.experiments.studies.base import Choice
from dgl_rbm.experiments.summary import Places

__all__ = ["LossesStudy"]

_LOSSES = ("commitment", "self_similarity", "load_balance")


class LossesStudy(AccuracyStudy):
    """RbM with all losses, without one of the three, and without all of them (paper, section 5.4)."""

    name = "losses"
    title = "Ablation of RbM's losses"
    summary = "RbM without commitment, self-similarity or load balance, and without all three (Table 5)."
    varies = tuple(f"student.{loss}_weight" for loss in _LOSSES)

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        without = [
            Choice(f"rbm-without-{loss.replace('_', '-')}", changes={"student": {f"{loss}_weight": 0.0}})
            for loss in _LOSSES
        ]
        none = Choice("rbm-kd-only", changes={"student": {f"{loss}_weight": 0.0 for loss in _LOSSES}})
        return [Choice("rbm"), *without, none]

    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        return self.draw_by_category(test, names, out)

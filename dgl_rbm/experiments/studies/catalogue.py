"""The studies by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgl_rbm.errors import UnknownNameError
from dgl_rbm.experiments.studies.annealing import AnnealingStudy
from dgl_rbm.experiments.studies.base import Study
from dgl_rbm.experiments.studies.complexity import ComplexityStudy
from dgl_rbm.experiments.studies.experts import ExpertsStudy
from dgl_rbm.experiments.studies.inflated import InflatedStudy
from dgl_rbm.experiments.studies.losses import LossesStudy
from dgl_rbm.experiments.studies.pareto import ParetoStudy
from dgl_rbm.experiments.studies.routing import RoutingStudy
from dgl_rbm.experiments.studies.teachers import TeachersStudy

__all__ = ["STUDIES", "load_study"]

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (
        LossesStudy,
        ExpertsStudy,
        AnnealingStudy,
        TeachersStudy,
        InflatedStudy,
        ComplexityStudy,
        ParetoStudy,
        RoutingStudy,
    )
}


def load_study(name: str, values: Sequence[Any] | None = None) -> Study:
    """Return a study by its name.

    Parameters
    ----------
    name : str
        One of `STUDIES`.
    values : sequence, optional
        What is studied in place of the study's own values, such as numbers of experts.

    Raises
    ------
    UnknownNameError
        Where there is none of that name; it names the nearest one.
    ConfigError
        Where the study cannot use the values.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES, hint="`dgl-rbm study --help` says what each of them does.")
    return STUDIES[name](values)

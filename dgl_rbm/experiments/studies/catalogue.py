"""Studies by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.errors import UnknownNameError
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.annealing import AnnealingStudy
from dgl_rbm.experiments.studies.base import Study
from dgl_rbm.experiments.studies.complexity import ComplexityStudy
from dgl_rbm.experiments.studies.experts import ExpertsStudy
from dgl_rbm.experiments.studies.inflated import InflatedStudy
from dgl_rbm.experiments.studies.losses import LossesStudy
from dgl_rbm.experiments.studies.pareto import ParetoStudy
from dgl_rbm.experiments.studies.report import StudyReport
from dgl_rbm.experiments.studies.routing import RoutingStudy
from dgl_rbm.experiments.studies.teachers import TeachersStudy

__all__ = ["STUDIES", "load_study", "study"]

STUDIES: dict[str, type[Study]] = {
    kind.name: kind
    for kind in (
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
        A name in `STUDIES`.
    values : sequence, optional
        Replaces the study's own values, such as numbers of experts.

    Raises
    ------
    UnknownNameError
        If there is no study of that name; the message suggests the nearest one.
    ConfigError
        If the study cannot use the values.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES, hint="`dgl-rbm study --help` describes each of them.")
    return STUDIES[name](values)


def study(name: str, values: Sequence[Any] | None = None, **options: Any) -> StudyReport:
    """Run a study of the RbM paper, or one of the new ones, and write its tables and figures.

    A study that was stopped continues in the same folder.

    Parameters
    ----------
    name : str
        A name in `STUDIES`: ``"losses"``, ``"experts"``, ``"annealing"``, ``"teachers"``, ``"inflated"``,
        ``"complexity"``, ``"pareto"`` or ``"routing"``.
    values : sequence, optional
        Replaces the study's own values, such as numbers of experts.
    **options
        See `dgl_rbm.experiments.options.ExperimentOptions`. By default the setting is transductive, seeds are few, and
        `out` is ``"runs/study-NAME"``.

    Returns
    -------
    StudyReport

    Raises
    ------
    ConfigError
        If the study or an option is wrong; before anything is run.
    MissingDependencyError
        If matplotlib is not installed; before anything is run.
    TimeBudgetError
        If the time budget is used up.

    Examples
    --------
    >>> quick = ["dataset.num_nodes=150", "training.epochs=3", "teacher.training.epochs=3"]
    >>> report = study("annealing", [0.0, 0.5], datasets="synthetic", seeds=1, overrides=quick)
    >>> report.results["method"].tolist()
    ['Δ = 0', 'Δ = 0.5']
    >>> [figure.name for figure in report.figures]
    ['annealing.png']
    """
    loaded = load_study(name, values)
    out = Path("runs") / f"study-{name}"
    defaults: dict[str, Any] = {"settings": "transductive", "seeds": loaded.default_seeds, "out": out}
    return loaded.execute(ExperimentOptions(**defaults | options))

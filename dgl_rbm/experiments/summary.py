"""Means over seeds, by dataset and by method or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

import pandas as pd

__all__ = ["Places", "Summary", "by_place", "finished", "summarize", "summarize_teachers", "teacher_names"]


@dataclass(frozen=True)
class Summary:
    """A metric of one method on one dataset and setting.

    Attributes
    ----------
    mean, std : float
        Over the seeds; the sample standard deviation, 0 for a single seed.
    runs : int
        Number of seeds.
    by_seed : dict of int to float
    """

    mean: float
    std: float
    runs: int
    by_seed: Mapping[int, float]


# Dataset and setting to method to its summary.
Places = dict[tuple[str, str], dict[str, Summary]]


def finished(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the runs that succeeded and have the metric."""
    return results[(results["status"] == "ok") & results[metric].notna()]


def summarize(results: pd.DataFrame, metric: str) -> dict[tuple[str, str], Summary]:
    """Return the summary of a metric for each dataset and method; failed runs are left out.

    Parameters
    ----------
    results : DataFrame
        Results of one setting, as in ``results.csv``.
    metric : str
        A column, such as ``"test_accuracy"``.
    """
    return _summaries(finished(results, metric), metric, "method")


def _summaries(results: pd.DataFrame, metric: str, name: str) -> dict[tuple[str, str], Summary]:
    """Return the summaries by dataset and by the column `name`; a run that several methods share counts once."""
    single = results.drop_duplicates(["dataset", name, "seed"], keep="last")
    summaries = {}
    for (dataset, value), group in single.groupby(["dataset", name], sort=False):
        values = group[metric].tolist()
        # The exact mean, not pandas' sum in floats: methods that are equal over the seeds must tie in the ranks.
        std = stdev(values) if len(values) > 1 else 0.0
        by_seed = dict(zip(group["seed"].tolist(), values, strict=True))
        summaries[str(dataset), str(value)] = Summary(mean(values), std, len(values), by_seed)
    return summaries


def summarize_teachers(results: pd.DataFrame, metric: str) -> dict[tuple[str, str], Summary]:
    """Return the summary of a metric for each dataset and teacher; a teacher that methods share counts once.

    Parameters
    ----------
    results : DataFrame
        Results of one setting, as in ``results.csv``.
    metric : str
        As for `summarize`, of the teacher.
    """
    column = f"teacher_{metric}"
    known = finished(results, column)
    names = teacher_names(known)
    keys = zip(known["dataset"], known["teacher"], known["teacher_id"], strict=True)
    return _summaries(known.assign(teacher_name=[names[key] for key in keys]), column, "teacher_name")


def teacher_names(results: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Name teachers by their kind, and by their methods too if methods have different teachers of a kind on a dataset.

    Returns
    -------
    dict
        From dataset, ``teacher`` and ``teacher_id`` of a run to the name.
    """
    names = {}
    for (dataset, kind), of_kind in results.groupby(["dataset", "teacher"], sort=False):
        methods = of_kind.groupby("teacher_id", sort=False)["method"].unique()
        for teacher_id, of_teacher in methods.items():
            of = "" if len(methods) == 1 else f" of {', '.join(of_teacher)}"
            names[str(dataset), str(kind), str(teacher_id)] = f"{kind} (teacher{of})"
    return names


def by_place(results: pd.DataFrame, column: str = "test_accuracy") -> Places:
    """Return for each dataset and setting, and then for each method, the summary of one column over the seeds."""
    places: Places = {}
    for setting, of_setting in results.groupby("setting", sort=False):
        for (dataset, variant), summary in summarize(of_setting, column).items():
            places.setdefault((dataset, str(setting)), {})[variant] = summary
    return places

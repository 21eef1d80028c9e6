"""Means over seeds of the accuracies in results.csv, by graph and by method or teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

__all__ = ["Row", "Summary", "summarize", "summarize_teachers", "teacher_names"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Accuracies of one method on one graph and setting.

    Attributes
    ----------
    mean, std : float
        Over the seeds; the standard deviation is that of a sample, 0 for a single one.
    runs : int
        How many there are.
    by_seed : dict of int to float
    """

    mean: float
    std: float
    runs: int
    by_seed: Mapping[int, float]


def summarize(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], Summary]:
    """Return for each dataset and method the summary of a metric; failed runs are left out.

    Parameters
    ----------
    rows : iterable of mapping
        Of ``results.csv``, of one setting.
    metric : str
        A column, such as ``"test_accuracy"``.
    """
    return _summaries(_finished(rows, metric), metric, lambda row: row["method"])


def _finished(rows: Iterable[Row], metric: str) -> list[Row]:
    """Return the rows that have the metric."""
    return [row for row in rows if row["status"] == "ok" and row[metric] is not None]


def _summaries(rows: Iterable[Row], metric: str, name: Callable[[Row], str]) -> dict[tuple[str, str], Summary]:
    """Return the summaries by dataset and by what `name` calls a row."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        values.setdefault((row["dataset"], name(row)), {})[row["seed"]] = row[metric]
    return {key: _summary(by_seed) for key, by_seed in values.items()}


def _summary(by_seed: Mapping[int, float]) -> Summary:
    values = list(by_seed.values())
    return Summary(mean(values), stdev(values) if len(values) > 1 else 0.0, len(values), by_seed)


def summarize_teachers(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], Summary]:
    """Return for each dataset and teacher the summary of a metric; a run that methods share counts once.

    Parameters
    ----------
    rows : iterable of mapping
        Of ``results.csv``, of one setting.
    metric : str
        As for `summarize`, of the teacher.
    """
    column = f"teacher_{metric}"
    rows = _finished(rows, column)
    names = teacher_names(rows)
    return _summaries(rows, column, lambda row: names[row["dataset"], row["teacher"], row["teacher_id"]])


def teacher_names(rows: Sequence[Row]) -> dict[tuple[str, str, str], str]:
    """Name teachers by their kind, and where methods had different ones of a kind on a graph, by the methods too.

    Parameters
    ----------
    rows : sequence of mapping
        Of ``results.csv``.

    Returns
    -------
    dict
        From a row's dataset, teacher and teacher_id to the name.
    """
    methods: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        having = methods.setdefault((row["dataset"], row["teacher"], row["teacher_id"]), [])
        if row["method"] not in having:
            having.append(row["method"])
    names = {}
    for dataset, kind, teacher_id in methods:
        alone = sum(key[:2] == (dataset, kind) for key in methods) == 1
        of = "" if alone else f" of {', '.join(methods[dataset, kind, teacher_id])}"
        names[dataset, kind, teacher_id] = f"{kind} (teacher{of})"
    return names

"""Figures of a comparison: accuracy of each method, and accuracy against active parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.comparison.tables import summarize
from dgl_rbm.errors import MissingDependencyError

__all__ = ["draw_accuracies", "draw_sizes", "require_matplotlib"]

Row = Mapping[str, Any]

_MARKERS = "osD^vP*X<>hd"
_DPI = 120


def require_matplotlib() -> Any:
    """Return `matplotlib.figure.Figure`, which draws to files without a screen.

    Raises
    ------
    MissingDependencyError
        Where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "Figures need matplotlib, which is not installed.", hint="pip install 'dgl-rbm[plot]'"
        ) from None
    return Figure


def _panels(rows: Sequence[Row]) -> tuple[Any, list[tuple[str, Any]]]:
    """Return a figure with one panel for each graph, three side by side at most."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    columns = min(3, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    figure = require_matplotlib()(figsize=(4.6 * columns, 3.6 * lines), dpi=_DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for unused in axes[len(datasets) :]:
        unused.remove()
    return figure, list(zip(datasets, axes, strict=False))


def _places(rows: Sequence[Row]) -> dict[str, int]:
    return {name: i for i, name in enumerate(dict.fromkeys(row["method"] for row in rows))}


def draw_accuracies(rows: Sequence[Row], setting: str, path: Path) -> None:
    """Draw one setting's mean test accuracy of each method with its standard deviation; one panel for each graph."""
    rows = [row for row in rows if row["setting"] == setting and row["status"] == "ok"]
    figure, panels = _panels(rows)
    summaries, places = summarize(rows, "test_accuracy"), _places(rows)
    for dataset, axis in panels:
        for method, place in places.items():
            found = summaries.get((dataset, method))
            if found is not None:
                axis.errorbar(
                    100 * found.mean, -place, xerr=100 * found.std, fmt="o", capsize=3, color=f"C{place % 10}"
                )
        axis.set_yticks([-place for place in places.values()], list(places))
        axis.set(title=f"{dataset}, {setting}", xlabel="test accuracy, %")
        axis.grid(axis="x", alpha=0.3)
    _save(figure, path)


def draw_sizes(rows: Sequence[Row], setting: str, path: Path) -> None:
    """Draw one setting's mean test accuracy of each method against the parameters that are active for a prediction."""
    rows = [row for row in rows if row["setting"] == setting and row["status"] == "ok"]
    figure, panels = _panels(rows)
    accuracies, sizes = summarize(rows, "test_accuracy"), summarize(rows, "active_parameters")
    places = _places(rows)
    for dataset, axis in panels:
        for method, place in places.items():
            if (dataset, method) in accuracies:
                found = accuracies[dataset, method]
                axis.errorbar(
                    sizes[dataset, method].mean,
                    100 * found.mean,
                    yerr=100 * found.std,
                    fmt=_MARKERS[place % len(_MARKERS)],
                    capsize=3,
                    color=f"C{place % 10}",
                    label=method,
                )
        axis.set_xscale("log")
        axis.set(title=f"{dataset}, {setting}", xlabel="active parameters", ylabel="test accuracy, %")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of matplotlib and the date, so that equal figures are equal files.
    figure.savefig(path, metadata={"Software": None})

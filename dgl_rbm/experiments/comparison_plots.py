"""Figures of a comparison: accuracy of each method, and accuracy against active parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.experiments.plots import colour_of, marker_of, new_figure, save_figure
from dgl_rbm.experiments.summary import summarize, summarize_teachers

__all__ = ["draw_accuracies", "draw_sizes"]


def _succeeded(results: pd.DataFrame, setting: str) -> pd.DataFrame:
    return results[(results["setting"] == setting) & (results["status"] == "ok")]


def _panels(rows: pd.DataFrame, height: float) -> tuple[Any, list[tuple[str, Any]]]:
    """Return a figure with one panel for each dataset, at most three side by side."""
    datasets = rows["dataset"].unique().tolist()
    columns = min(3, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    figure, axes = new_figure(lines, columns, width=4.6 * columns, height=height * lines)
    panels = axes.flatten()
    for unused in panels[len(datasets) :]:
        unused.remove()
    return figure, list(zip(datasets, panels, strict=False))


def _positions(rows: pd.DataFrame) -> dict[str, int]:
    return {name: i for i, name in enumerate(rows["method"].unique())}


def _draw_teachers(rows: pd.DataFrame, dataset: str, line: Any) -> None:
    for (of, name), found in summarize_teachers(rows, "test_accuracy").items():
        if of == dataset:
            line(100 * found.mean, linestyle="--", linewidth=1, color="0.4", label=name)


def draw_accuracies(results: pd.DataFrame, setting: str, path: Path) -> Path:
    """Draw one setting's mean test accuracy of each method, with its standard deviation and the teachers' means.

    One panel for each graph.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    rows = _succeeded(results, setting)
    positions = _positions(rows)
    figure, panels = _panels(rows, 1.4 + 0.25 * len(positions))
    summaries = summarize(rows, "test_accuracy")
    for dataset, axes in panels:
        for method, i in positions.items():
            found = summaries.get((dataset, method))
            if found is not None:
                axes.errorbar(100 * found.mean, -i, xerr=100 * found.std, fmt="o", capsize=3, color=colour_of(i))
        _draw_teachers(rows, dataset, axes.axvline)
        axes.set_yticks([-i for i in positions.values()], list(positions))
        axes.set_ylim(-len(positions) + 0.4, 0.6)
        axes.set(title=f"{dataset}, {setting}", xlabel="test accuracy, %")
        axes.grid(axis="x", alpha=0.3)
        _legend(axes)
    return save_figure(figure, path)


def draw_sizes(results: pd.DataFrame, setting: str, path: Path) -> Path:
    """Draw one setting's mean test accuracy of each method against the parameters that are active for a prediction.

    One panel for each graph.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    rows = _succeeded(results, setting)
    figure, panels = _panels(rows, 3.8)
    accuracies, sizes = summarize(rows, "test_accuracy"), summarize(rows, "active_parameters")
    for dataset, axes in panels:
        for method, i in _positions(rows).items():
            if (dataset, method) in accuracies:
                found, size = accuracies[dataset, method], sizes[dataset, method].mean
                look = {"fmt": marker_of(i), "color": colour_of(i), "label": method}
                axes.errorbar(size, 100 * found.mean, yerr=100 * found.std, capsize=3, **look)
        _draw_teachers(rows, dataset, axes.axhline)
        axes.set_xscale("log")
        axes.set(title=f"{dataset}, {setting}", xlabel="active parameters", ylabel="test accuracy, %")
        axes.grid(alpha=0.3)
        _legend(axes)
    return save_figure(figure, path)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="x-small")

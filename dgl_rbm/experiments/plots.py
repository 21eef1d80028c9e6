"""Figures: axes with names and units, colours that colour-blind people can tell apart, and markers besides.

Drawn by matplotlib, of the extra ``plot``, without a screen and without its global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgl_rbm.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "Line",
    "Points",
    "colour_of",
    "draw_categories",
    "draw_lines",
    "draw_points",
    "marker_of",
    "new_figure",
    "require_matplotlib",
    "save_figure",
]

# Okabe and Ito (2008), "Color Universal Design", with the black last.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Line:
    """A line over x.

    Attributes
    ----------
    name : str
        For the legend.
    x, y : sequence of float
        Its points.
    spread : sequence of float, optional
        Half the length of an error bar at each point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None


@dataclass(frozen=True)
class Points:
    """Points in the plane, each of a group.

    Attributes
    ----------
    points : array_like
        Shape ``[B, 2]``.
    groups : array_like
        Group of each point, such as its label, int ``[B]``.
    name : str
        What the groups are.
    """

    points: Any
    groups: Any
    name: str


def new_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure of `width` by `height` inches, and its axes, an array ``[rows, columns]``.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "Figures need matplotlib, which is not installed.", hint="Install it with: pip install 'dgl-rbm[plot]'"
        ) from None
    # Without pyplot, which would open a window and keep every figure in memory.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def require_matplotlib() -> None:
    """Raise an error if no figure can be drawn; for use before long work.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    new_figure(1, 1, width=1, height=1)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure and return its path; the suffix of `path` sets the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def colour_of(i: int) -> str:
    """Return the colour of the group or line `i`; after eight of them they come again."""
    return COLOURS[i % len(COLOURS)]


def marker_of(i: int) -> str:
    """Return the marker of the line `i`."""
    return _MARKERS[i % len(_MARKERS)]


def draw_lines(
    axes: Axes,
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    markers: bool = True,
) -> None:
    """Draw lines with error bars, distinguished by colour and marker, or by dashes if there are no markers."""
    for i, line in enumerate(lines):
        style: dict[str, Any] = {"marker": marker_of(i), "markersize": 5} if markers else {}
        axes.errorbar(
            line.x,
            line.y,
            yerr=line.spread,
            label=line.name,
            color=colour_of(i),
            linestyle="-" if markers else _DASHES[i % len(_DASHES)],
            linewidth=1.3,
            capsize=2.5,
            elinewidth=0.8,
            **style,
        )
    if log_x:
        _log_scale(axes)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize="small")


def _log_scale(axes: Axes) -> None:
    """Make x logarithmic with plain numbers at 1, 2 and 5 of every power of ten."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_points(axes: Axes, drawn: Points, *, title: str, names: Mapping[int, str] | None = None) -> None:
    """Draw points of a plane whose axes mean nothing, such as those of t-SNE, coloured by group.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    drawn : Points
    title : str
    names : mapping of int to str, optional
        Names of groups; the others are called by their number.
    """
    points, groups = np.asarray(drawn.points), np.asarray(drawn.groups)
    for group in np.unique(groups).tolist():
        of_group = points[groups == group]
        axes.scatter(
            of_group[:, 0],
            of_group[:, 1],
            s=9,
            linewidths=0,
            color=colour_of(group),
            # Beyond eight groups the colours come again, with another marker.
            marker=marker_of(group // len(COLOURS)),
            label=(names or {}).get(group, str(group)),
        )
    axes.set(title=title, xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    axes.legend(
        title=drawn.name, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6
    )


def draw_categories(axes: Axes, names: Sequence[str], lines: Sequence[Line], *, title: str, y_label: str) -> None:
    """Draw points with error bars over named places; x of the lines are positions among the `names`.

    Lines are drawn side by side, without anything between the places, whose order means nothing.
    """
    for i, line in enumerate(lines):
        shift = 0.14 * (i - (len(lines) - 1) / 2)
        axes.errorbar(
            [x + shift for x in line.x],
            line.y,
            yerr=line.spread,
            label=line.name,
            color=colour_of(i),
            marker=marker_of(i),
            markersize=6,
            linestyle="none",
            capsize=2.5,
            elinewidth=0.8,
        )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set(title=title, ylabel=y_label)
    axes.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize="small")

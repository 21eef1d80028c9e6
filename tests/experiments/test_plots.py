"""What the figures show: names and units on axes, one colour and marker a line, readable without colours."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np

from dgl_rbm.experiments.plots import (
    COLOURS,
    Line,
    Points,
    draw_categories,
    draw_lines,
    draw_points,
    new_figure,
    save_figure,
)


def brightness_under(colour: str, matrix: np.ndarray) -> np.ndarray:
    """Return a colour as someone with a colour vision deficiency sees it, in linear RGB."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(matrix @ linear, 0, 1)


def test_colours_stay_apart_for_colour_blind_eyes() -> None:
    # Viénot, Brettel and Mollon 1999, for protanopes and deuteranopes.
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    for matrix in (protan, deutan):
        seen = [brightness_under(colour, matrix) for colour in COLOURS]
        assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.05
    assert len(set(COLOURS)) == len(COLOURS) == 8


def test_lines_have_names_units_and_markers(tmp_path: Path) -> None:
    figure, axes = new_figure(1, 2, width=8, height=3)
    lines = [Line(f"line {i}", [10, 100], [50 + i, 60 + i], [1, 2]) for i in range(3)]
    draw_lines(axes[0, 0], lines, title="a", x_label="Parameters", y_label="Accuracy (%)", log_x=True)
    draw_lines(axes[0, 1], lines, title="b", x_label="Epoch", y_label="Share (%)", markers=False)
    panel = axes[0, 0]
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_title()) == ("Parameters", "Accuracy (%)", "a")
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["line 0", "line 1", "line 2"]
    drawn = [container.lines[0] for container in panel.containers]
    assert len({line.get_color() for line in drawn}) == len({line.get_marker() for line in drawn}) == 3
    assert [line.get_ydata().tolist() for line in drawn] == [[50, 60], [51, 61], [52, 62]]
    plain = [container.lines[0] for container in axes[0, 1].containers]
    assert len({line.get_linestyle() for line in plain}) == 3
    path = save_figure(figure, tmp_path / "new" / "lines.png")
    assert matplotlib.image.imread(path).shape[:2] == (390, 1040)


def test_categories_stand_side_by_side() -> None:
    _, axes = new_figure(1, 1, width=5, height=3)
    lines = [Line("first", [0, 1], [5.0, 6.0]), Line("second", [1], [7.0])]
    draw_categories(axes[0, 0], ["mlp", "rbm"], lines, title="t", y_label="Accuracy (%)")
    panel = axes[0, 0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["mlp", "rbm"]
    first, second = (container.lines[0] for container in panel.containers)
    assert np.allclose(np.asarray(first.get_xdata(), dtype=float), [-0.07, 0.93])
    assert np.allclose(np.asarray(second.get_xdata(), dtype=float), [1.07])
    assert first.get_linestyle() == "None"


def test_points_of_more_groups_than_colours_differ_in_marker() -> None:
    _, axes = new_figure(1, 1, width=5, height=5)
    groups = np.arange(20) % 10
    points = Points(np.arange(40.0).reshape(20, 2), groups, "label")
    draw_points(axes[0, 0], points, title="t", names={0: "zero"})
    drawn = axes[0, 0].collections
    assert [part.get_label() for part in drawn] == ["zero", *map(str, range(1, 10))]
    for group, part in enumerate(drawn):
        assert np.array_equal(part.get_offsets(), np.asarray(points.points)[groups == group])
    looks = {(tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes()) for part in drawn}
    assert len(looks) == 10
    assert axes[0, 0].get_legend().get_title().get_text() == "label"


def test_needs_neither_a_screen_nor_pyplot() -> None:
    code = """
import sys
from dgl_rbm.experiments.plots import new_figure
new_figure(1, 1, width=2, height=2)
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

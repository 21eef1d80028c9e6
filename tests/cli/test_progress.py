"""Progress as a terminal and as a pipe show it."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

import dgl_rbm.console.loading
import dgl_rbm.console.progress
from dgl_rbm.console.cells import CellProgress
from dgl_rbm.console.loading import show_loading
from dgl_rbm.console.progress import BarProgress, LineProgress


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def last_frame(progress: BarProgress, width: int = 80) -> list[str]:
    """Return the lines of the display as they stay on the screen."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(progress.progress.get_renderable())
    file: Any = console.file
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_both_times_have_titles(width: int) -> None:
    with BarProgress(terminal(width)) as bars:
        bars.on_stage_start("teacher", 500, "epochs")
        bars.on_step("teacher", 148, {"loss": 0.25, "val_accuracy": 0.5})
        titles, line = last_frame(bars, width)
    assert titles.split() == ["stage", "steps", "elapsed", "left"]
    assert "148/500" in line
    assert line.endswith("loss 0.2500  val 50.00 %"), "one line, within the width"
    assert titles.index("elapsed") <= line.index("0:00:00") < titles.index("left")


def test_nothing_is_shown_before_the_first_stage() -> None:
    with BarProgress(terminal()) as bars:
        assert not "".join(last_frame(bars))


def test_a_stopped_stage_shows_neither_a_spinner_nor_an_estimate() -> None:
    with BarProgress(terminal()) as bars:
        bars.on_stage_start("teacher", 500, "epochs")
        bars.on_step("teacher", 10, {})
        bars.on_step("teacher", 148, {"loss": 0.25})
        bars.on_stage_end("teacher", 3.0, finished=False)
    line = last_frame(bars)[1]
    assert line.startswith("× teacher")
    assert line.endswith("stopped")
    assert line.count(":") == 2, "the elapsed time alone"


def test_a_finished_stage_is_full_and_without_an_estimate() -> None:
    with BarProgress(terminal()) as bars:
        bars.on_stage_start("teacher", 500, "epochs")
        bars.on_step("teacher", 148, {"loss": 0.25})
        bars.on_stage_end("teacher", 3.0, finished=True)
        bars.on_stage_reused("encodings", 1.0)
    lines = last_frame(bars)
    assert lines[1].startswith("✓ teacher")
    assert "148/148" in lines[1]
    assert lines[1].count(":") == 2
    assert lines[2].endswith("from the checkpoint")


def test_lines_count_no_whole_step_as_part_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgl_rbm.console.progress, "_SECONDS_BETWEEN_LINES", 0.0)
    console = Console(file=io.StringIO(), width=80)
    lines = LineProgress(console)
    lines.on_stage_start("teacher", 510, "epochs")
    for done in (1, 2):
        for part in (1, 2, 3, 4):
            lines.on_substep("teacher", part, 4)
        lines.on_step("teacher", done, {"loss": 0.5})
    file: Any = console.file
    printed = file.getvalue()
    assert "100%" not in printed
    assert "0/510 epochs  75% of the next" in printed
    assert "1/510 epochs  25% of the next  loss 0.5000" in printed
    assert "2/510 epochs  loss 0.5000" in printed


def test_a_stopped_experiment_leaves_no_estimate() -> None:
    progress = CellProgress(terminal())
    progress.__enter__()
    progress.on_start(10, 2)
    progress._bar.update(progress._task, ahead="about 5 min to go")
    progress.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    (task,) = progress._bar.tasks
    assert task.fields["ahead"] == "stopped"


def test_loading_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.setitem(dgl_rbm.console.loading._NAMES, "colorsys", "a library")
    pipe = Console(file=io.StringIO(), width=80)
    show_loading(pipe, "colorsys")
    screen = terminal()
    show_loading(screen, "colorsys")
    show_loading(screen, "colorsys")
    files: tuple[Any, Any] = (pipe.file, screen.file)
    assert files[0].getvalue() == ""
    assert files[1].getvalue().count("Loading a library …") == 1

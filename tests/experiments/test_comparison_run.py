"""The runner: the same results in any number of processes, after any stop, with shared parts or without."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Distiller
from dgl_rbm.errors import ConfigError, TimeBudgetError
from dgl_rbm.experiments.cells import cell_file, kept_metrics
from dgl_rbm.experiments.executors.processes import Outcome, attempt, outcomes
from dgl_rbm.experiments.grid import Cell, expand
from dgl_rbm.experiments.results import COLUMNS, TIMED_COLUMNS, read_results, result_row
from dgl_rbm.experiments.runner import Listener, _Schedule, run_cells

from .conftest import VARIANTS, tiny_grid, variant

ROOT = Path(__file__).resolve().parents[2]


INDUCTIVE = ("inductive",)


def untimed(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results.csv as text, without what is measured anew each time."""
    with (path / "results.csv").open(encoding="utf-8", newline="") as file:
        return [{key: row[key] for key in COLUMNS if key not in TIMED_COLUMNS} for row in csv.DictReader(file)]


class Seen(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.total = self.kept = 0
        self.cells: list[str] = []

    def on_start(self, total: int, kept: int) -> None:
        self.total, self.kept = total, kept

    def on_cell(self, outcome: Outcome) -> None:
        self.cells.append(outcome.cell.key)


def test_one_row_a_cell_in_the_order_of_the_grid(finished: Any) -> None:
    out, rows = finished
    cells = tiny_grid()
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert read_results(out / "results.csv") == rows
    assert [(row["method"], row["setting"], row["seed"]) for row in rows] == [
        (cell.variant, cell.setting, cell.seed) for cell in cells
    ]
    assert {(row["teacher"], row["student"]) for row in rows} == {("sage", "mlp"), ("sage", "rbm")}
    assert all((row["production_accuracy"] is None) == (row["setting"] == "transductive") for row in rows)
    assert not (out / "partial").exists() or not list((out / "partial").iterdir())


def test_a_cell_is_the_run_that_distill_makes(finished: Any, tmp_path: Path) -> None:
    """A run that takes shared parts equals the run that makes its own, to the last bit."""
    out, rows = finished
    for cell, row in zip(tiny_grid(), rows, strict=True):
        alone = Distiller.from_config(cell.config).fit(latency_of=())
        scores = alone.metrics["student"]
        assert [row[name] for name in ("val_accuracy", "test_accuracy", "test_macro_f1", "best_epoch")] == [
            scores[name] for name in ("val_accuracy", "test_accuracy", "test_macro_f1", "best_epoch")
        ]
        shared = Distiller.from_config(cell.config).fit(shared=out / "shared", latency_of=())
        assert torch.equal(shared.student_logits, alone.student_logits)
        assert torch.equal(shared.teacher_logits, alone.teacher_logits)


def test_teachers_and_encodings_are_made_once(finished: Any) -> None:
    out, rows = finished
    parts = sorted(path.name.partition("-")[0] for path in (out / "shared").iterdir() if path.is_dir())
    # A teacher for each setting and seed; of encodings two, those of `none` and of DeepWalk.
    assert parts == ["encodings"] * 8 + ["reliability"] * 4 + ["teacher"] * 4
    by_place: dict[tuple[str, int], set[float]] = {}
    for row in rows:
        by_place.setdefault((row["setting"], row["seed"]), set()).add(row["seconds_teacher"])
    # Whoever took it over took over the time that it needed too.
    assert all(len(seconds) == 1 for seconds in by_place.values())


def test_two_processes_give_the_same_as_one(finished: Any, tmp_path: Path) -> None:
    cells, seen = tiny_grid(INDUCTIVE), Seen()
    rows = run_cells(cells, tmp_path, jobs=2, listener=seen)
    assert untimed(tmp_path) == [row for row in untimed(finished[0]) if row["setting"] == "inductive"]
    assert (seen.total, seen.kept, sorted(seen.cells)) == (4, 0, sorted(cell.key for cell in cells))
    again = Seen()
    assert run_cells(cells, tmp_path, jobs=1, listener=again) == rows
    assert (again.kept, again.cells) == (4, [])


PROGRAM = """
import sys
from experiments.conftest import tiny_grid
from dgl_rbm.experiments.runner import run_cells
if __name__ == "__main__":
    run_cells(tiny_grid(("inductive",)), sys.argv[1], jobs=1)
"""


def test_killed_in_the_middle_it_continues_to_the_same(finished: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out = tmp_path / "out"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen([sys.executable, str(program), str(out)], env={**os.environ, "PYTHONPATH": path})
    try:
        while not list((out / "cells").glob("*.json")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list((out / "cells").glob("*.json")))
    assert not (out / "results.csv").exists()
    seen = Seen()
    run_cells(tiny_grid(INDUCTIVE), out, jobs=0, listener=seen)
    assert 1 <= seen.kept == kept < 4
    assert untimed(out) == [row for row in untimed(finished[0]) if row["setting"] == "inductive"]


def test_a_cell_that_two_processes_want_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, fits, found = tiny_grid(("transductive",), (0,))[0], [], []
    fit = Distiller.fit
    begun, both = threading.Event(), threading.Event()

    def slow(self: Distiller, *args: Any, **options: Any) -> Any:
        fits.append(cell)
        begun.set()
        assert both.wait(60)
        return fit(self, *args, **options)

    monkeypatch.setattr(Distiller, "fit", slow)
    (tmp_path / "cells").mkdir()
    # Locks are of open files, so that threads stand for processes here.
    threads = [threading.Thread(target=lambda: found.append(attempt(cell, tmp_path))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    time.sleep(0.3)
    both.set()
    for thread in threads:
        thread.join()
    assert len(fits) == 1
    assert found[0].metrics == found[1].metrics == kept_metrics(tmp_path, cell) is not None
    assert not list((tmp_path / "partial").iterdir())


@pytest.mark.parametrize("damage", ["cut", "no metrics", "metrics of nothing", "metrics without a student", "other"])
def test_a_damaged_cell_is_run_again(damage: str, finished: Any, tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))
    for folder in ("cells", "shared"):
        shutil.copytree(finished[0] / folder, tmp_path / folder)
    file = cell_file(tmp_path, cells[0])
    text = file.read_text()
    content = json.loads(text)
    damaged = {
        "cut": text[:100],
        "no metrics": json.dumps({"cell": content["cell"]}),
        "metrics of nothing": json.dumps({**content, "metrics": None}),
        "metrics without a student": json.dumps({**content, "metrics": {**content["metrics"], "student": {}}}),
        "other": json.dumps({**content, "cell": "0" * 64}),
    }
    file.write_text(damaged[damage])
    seen = Seen()
    run_cells(cells, tmp_path, jobs=0, listener=seen)
    assert (seen.kept, seen.cells) == (1, [cells[0].key])


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    # The teacher's loss overflows.
    hopeless = variant("hopeless", teacher={"kind": "sage", "hidden_dim": 8, "training": {"epochs": 5, "lr": 1e25}})
    cells = expand([hopeless, VARIANTS[0]], ["synthetic"], ["transductive"], [0], device="cpu")
    rows = run_cells(cells, tmp_path, jobs=0)
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert "The teacher's loss is nan" in rows[0]["error"]
    assert rows[0]["test_accuracy"] is None
    trace = next((tmp_path / "errors").iterdir()).read_text()
    assert "hopeless, synthetic, transductive, seed 0" in trace
    assert "Traceback" in trace
    assert read_results(tmp_path / "results.csv") == rows
    # It is tried again.
    seen = Seen()
    run_cells(cells, tmp_path, jobs=0, listener=seen)
    assert (seen.kept, seen.cells) == (1, [cells[0].key])


def test_a_process_that_dies_takes_only_its_cell_with_it(tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))[:1]
    unreadable = Cell("unreadable", "synthetic", "transductive", 0, Unreadable())  # type: ignore[arg-type]
    deadly = Cell("deadly", "synthetic", "transductive", 0, Killer())  # type: ignore[arg-type]
    waiting = [deadly, unreadable, *cells]
    found = {}
    for outcome in outcomes(lambda worker: waiting.pop(0) if waiting else None, tmp_path, jobs=1, threads=1):
        assert outcome is not None
        found[outcome.cell.variant] = outcome
    assert found["deadly"].metrics is None
    assert "SIGKILL" in found["deadly"].error
    assert found["unreadable"].metrics is None
    assert "could not be read: ValueError: nothing of the kind" in found["unreadable"].error
    for cell in cells:
        metrics = found[cell.variant].metrics
        assert metrics is not None
        assert result_row(cell, metrics)["status"] == "ok"


def refuse() -> None:
    raise ValueError("nothing of the kind")


class Unreadable:
    """Stands in for a configuration whose class the other process does not know."""

    def __reduce__(self) -> Any:
        return refuse, ()


class Killer:
    """Stands in for a configuration; kills the process that asks it for anything, as the system does out of memory."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        os.kill(os.getpid(), signal.SIGKILL)


def test_when_time_is_up_what_is_done_is_kept(tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))
    with pytest.raises(TimeBudgetError, match=r"0 of 2 cells") as error:
        run_cells(cells, tmp_path, jobs=1, max_hours=1e-7)
    assert "continues" in str(error.value.hint)
    assert untimed(tmp_path) == []
    assert [row["status"] for row in run_cells(cells, tmp_path, jobs=0)] == ["ok", "ok"]


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    class Impatient(Listener):
        def on_cell(self, outcome: Outcome) -> None:
            raise KeyboardInterrupt

    cells = tiny_grid(("transductive",), (0,))
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, tmp_path, jobs=0, listener=Impatient())
    assert [row["method"] for row in untimed(tmp_path)] == ["plain"]
    assert kept_metrics(tmp_path, cells[0]) is not None
    assert kept_metrics(tmp_path, cells[1]) is None


@pytest.mark.parametrize("options", [{"jobs": -1}, {"threads": 0}, {"max_hours": 0}, {"max_hours": float("nan")}])
def test_options_out_of_range(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected"):
        run_cells(tiny_grid(), tmp_path, **options)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file is a file; expected a folder"):
        run_cells(tiny_grid(), tmp_path / "file")
    with pytest.raises(ConfigError, match=r"--out .*folder cannot be written to"):
        run_cells(tiny_grid(), tmp_path / "file" / "folder")
    with pytest.raises(ConfigError, match=r"--out .* cannot be written to: File name too long"):
        run_cells(tiny_grid(), tmp_path / ("x" * 300))
    (tmp_path / "cells").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*cells is a file"):
        run_cells(tiny_grid(), tmp_path)


def test_workers_wait_for_no_teacher_while_there_is_other_work() -> None:
    cells = tiny_grid(("transductive",), (0, 1, 2))
    schedule = _Schedule(cells)

    def take(worker: int) -> tuple[str, int] | None:
        cell = schedule.take(worker)
        return None if cell is None else (cell.variant, cell.seed)

    # Each worker begins with a graph and seed of its own.
    assert [take(0), take(1)] == [("plain", 0), ("plain", 1)]
    schedule.done(cells[0])
    # It stays where its teacher is; a third one takes what nobody has begun.
    assert [take(0), take(2)] == [("mixture", 0), ("plain", 2)]
    # Of what is left, both teachers are still in the making; then all is handed out.
    assert [take(0), take(0), take(0)] == [("mixture", 1), ("mixture", 2), None]

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
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Distiller
from dgl_rbm.errors import ArtifactWarning, ConfigError, TimeBudgetError, UnknownNameError
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.executors import attempt as attempts
from dgl_rbm.experiments.executors.attempt import attempt
from dgl_rbm.experiments.executors.processes import execute
from dgl_rbm.experiments.listener import Listener, Outcome
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.queue import Assignment, CellQueue
from dgl_rbm.experiments.results import COLUMNS, TIMED_COLUMNS, read_results, result_row, to_records
from dgl_rbm.experiments.store import CellStore

from .conftest import VARIANTS, expand_grid, run_cells, tiny_grid, variant

ROOT = Path(__file__).resolve().parents[2]


INDUCTIVE = ("inductive",)


def untimed(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results.csv as text, without what is measured anew each time."""
    with (path / "results.csv").open(encoding="utf-8", newline="") as file:
        return [{key: row[key] for key in COLUMNS if key not in TIMED_COLUMNS} for row in csv.DictReader(file)]


class Seen(Listener):
    """Records its calls."""

    def __init__(self) -> None:
        self.total = self.kept = self.waited_for = 0
        self.cells: list[str] = []

    def on_start(self, total: int, kept: int) -> None:
        self.total, self.kept = total, kept

    def on_cell(self, outcome: Outcome) -> None:
        self.cells.append(outcome.cell.key)

    def on_wait(self, cells: int) -> None:
        self.waited_for = cells


def test_one_row_a_cell_in_the_order_of_the_grid(finished: Any) -> None:
    out, rows = finished
    cells = tiny_grid()
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert to_records(read_results(out / "results.csv")) == rows
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
        scores = alone.metrics.to_values()["student"]
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
    assert to_records(run_cells(cells, tmp_path, jobs=1, listener=again)) == to_records(rows)
    assert (again.kept, again.cells) == (4, [])


PROGRAM = """
import sys
from experiments.conftest import run_cells, tiny_grid
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


def test_a_cell_that_another_process_runs_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, fits, found = tiny_grid(("transductive",), (0,))[0], [], []
    fit = Distiller.fit
    begun, free = threading.Event(), threading.Event()

    def slow(self: Distiller, *args: Any, **options: Any) -> Any:
        fits.append(cell)
        begun.set()
        assert free.wait(60)
        return fit(self, *args, **options)

    monkeypatch.setattr(Distiller, "fit", slow)
    store = CellStore(tmp_path)
    store.make()
    # Locks are of open files, so that a thread stands for a process here.
    thread = threading.Thread(target=lambda: found.append(attempt(cell, store)))
    thread.start()
    assert begun.wait(60)
    assert attempt(cell, store) == Outcome(cell, None, taken=True)
    threading.Timer(0.3, free.set).start()
    found.append(attempt(cell, store, patience=60))
    thread.join()
    assert len(fits) == 1
    assert found[0].metrics == found[1].metrics == store.metrics(cell) is not None
    assert not list((tmp_path / "partial").iterdir())


SHARED_PROGRAM = """
import json, sys
from dgl_rbm.experiments.listener import Listener
from dgl_rbm.run.distiller import Distiller
from experiments.conftest import run_cells, tiny_grid

fit, run_here = Distiller.fit, []


def counted(self, *args, **options):
    run_here.append(options["out"].name)
    return fit(self, *args, **options)


if __name__ == "__main__":
    Distiller.fit = counted
    ended = []
    listener = Listener()
    listener.on_cell = lambda outcome: ended.append(outcome.cell.key)
    results = run_cells(tiny_grid(), sys.argv[1], listener=listener)
    print(json.dumps({"run": run_here, "ended": ended, "ok": int((results["status"] == "ok").sum())}))
"""


def test_two_processes_share_a_grid(finished: Any, tmp_path: Path) -> None:
    """Each cell is run once, by one of them, and both end with all results."""
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(SHARED_PROGRAM)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(out)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    found = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    cells = [cell.key for cell in tiny_grid()]
    assert sorted(found[0]["run"] + found[1]["run"]) == sorted(cells)
    assert [len(entry["run"]) > 0 for entry in found] == [True, True]
    assert [entry["ok"] for entry in found] == [8, 8]
    assert untimed(out) == untimed(finished[0])


def test_cells_of_a_process_that_died_are_run_by_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, seen = tiny_grid(("transductive",), (0,)), Seen()
    held = CellStore(tmp_path)
    held.make()
    claim = held.claimed(cells[0])
    claim.__enter__()
    monkeypatch.setattr("dgl_rbm.experiments.queue._SECONDS_FOR_OTHERS", 0.2)
    threading.Timer(1.0, lambda: claim.__exit__(None, None, None)).start()
    results = run_cells(cells, tmp_path, listener=seen)
    # The cell of the other process came last, and its lock was free at some point.
    assert seen.cells == [cells[1].key, cells[0].key]
    assert seen.waited_for == 1
    assert results["status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize(
    "damage", ["cut", "no metrics", "metrics of nothing", "metrics without a student", "a score", "a field", "other"]
)
def test_a_damaged_cell_is_run_again(damage: str, finished: Any, tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))
    for folder in ("cells", "shared"):
        shutil.copytree(finished[0] / folder, tmp_path / folder)
    file = CellStore(tmp_path).cell_file(cells[0])
    text = file.read_text()
    content = json.loads(text)
    damaged = {
        "cut": text[:100],
        "no metrics": json.dumps({"cell": content["cell"]}),
        "metrics of nothing": json.dumps({**content, "metrics": None}),
        "metrics without a student": json.dumps({**content, "metrics": {**content["metrics"], "student": {}}}),
        "a score": text.replace('"test_accuracy": 0.', '"test_accuracy": 0.0', 1),
        "a field": text.replace('"config"', '"confih"'),
        "other": json.dumps({**content, "cell": "0" * 64, "sha256": None}),
    }
    assert damaged[damage] != text
    file.write_text(damaged[damage])
    seen = Seen()
    # A cell of other options is another cell.
    expected: Any = nullcontext() if damage == "other" else pytest.warns(ArtifactWarning, match=file.name)
    with expected:
        run_cells(cells, tmp_path, jobs=0, listener=seen)
    assert (seen.kept, seen.cells) == (1, [cells[0].key])


def test_a_cell_of_a_former_version_is_read(finished: Any, tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))
    shutil.copytree(finished[0] / "cells", tmp_path / "cells")
    store = CellStore(tmp_path)
    for cell in cells:
        content = json.loads(store.cell_file(cell).read_text())
        assert content.pop("sha256")
        store.cell_file(cell).write_text(json.dumps(content, indent=1))
        assert store.metrics(cell) == content["metrics"]


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    # The teacher's loss overflows.
    hopeless = variant("hopeless", teacher={"kind": "sage", "hidden_dim": 8, "training": {"epochs": 5, "lr": 1e38}})
    cells = expand_grid([hopeless, VARIANTS[0]], ["synthetic"], ["transductive"], [0], device="cpu")
    rows = to_records(run_cells(cells, tmp_path, jobs=0))
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert "The teacher's loss is nan" in rows[0]["error"]
    assert rows[0]["test_accuracy"] is None
    trace = next((tmp_path / "errors").iterdir()).read_text()
    assert "hopeless, synthetic, transductive, seed 0" in trace
    assert "Traceback" in trace
    assert to_records(read_results(tmp_path / "results.csv")) == rows
    # It is tried again.
    seen = Seen()
    run_cells(cells, tmp_path, jobs=0, listener=seen)
    assert (seen.kept, seen.cells) == (1, [cells[0].key])


def test_a_process_that_dies_takes_only_its_cell_with_it(tmp_path: Path) -> None:
    cells = tiny_grid(("transductive",), (0,))[:1]
    unreadable = Cell("unreadable", "synthetic", "transductive", 0, Unreadable())  # type: ignore[arg-type]
    deadly = Cell("deadly", "synthetic", "transductive", 0, Killer())  # type: ignore[arg-type]
    store = CellStore(tmp_path)
    store.make()
    found = {}
    for outcome in execute(Waiting([deadly, unreadable, *cells]), store, ExperimentOptions(jobs=1), float("inf")):  # type: ignore[arg-type]
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


class Waiting:
    """Stands in for a queue, of cells whose configurations cannot be read."""

    def __init__(self, cells: list[Cell]) -> None:
        self.cells = cells

    def take(self, worker: int) -> Assignment | None:
        return Assignment(self.cells.pop(0)) if self.cells else None


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
    with pytest.raises(
        TimeBudgetError, match=r"time budget of .* hours was used up with 0 of 2 cells finished"
    ) as error:
        run_cells(cells, tmp_path, jobs=1, max_hours=1e-7)
    assert "continues" in str(error.value.hint)
    assert untimed(tmp_path) == []
    assert run_cells(cells, tmp_path, jobs=0)["status"].tolist() == ["ok", "ok"]


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    class Impatient(Listener):
        def on_cell(self, outcome: Outcome) -> None:
            raise KeyboardInterrupt

    cells = tiny_grid(("transductive",), (0,))
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, tmp_path, jobs=0, listener=Impatient())
    assert [row["method"] for row in untimed(tmp_path)] == ["plain"]
    assert CellStore(tmp_path).metrics(cells[0]) is not None
    assert CellStore(tmp_path).metrics(cells[1]) is None


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
    with pytest.raises(ConfigError, match=r"is no name of a file: File name too long"):
        run_cells(tiny_grid(), tmp_path / ("x" * 300))
    (tmp_path / "cells").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*cells is a file"):
        run_cells(tiny_grid(), tmp_path)


def test_executors_by_name_or_as_functions(finished: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no executor 'inlin'\. Did you mean 'inline'"):
        ExperimentOptions(executor="inlin")
    with pytest.raises(ConfigError, match="expected a name or a function"):
        ExperimentOptions(executor=3)  # type: ignore[arg-type]
    cells, used = tiny_grid(("transductive",), (0,)), []

    def backwards(queue: CellQueue, store: CellStore, options: ExperimentOptions, deadline: float) -> Any:
        """Take all cells first, as a batch system does."""
        taken = []
        while (assignment := queue.take(0)) is not None:
            taken.append(assignment.cell)
        for cell in reversed(taken):
            used.append(cell)
            yield attempts.attempt(cell, store)

    run_cells(cells, tmp_path, executor=backwards)
    assert used == cells[::-1]
    expected = [row for row in untimed(finished[0]) if (row["setting"], row["seed"]) == ("transductive", "0")]
    assert untimed(tmp_path) == expected


def test_workers_wait_for_no_teacher_while_there_is_other_work() -> None:
    cells = tiny_grid(("transductive",), (0, 1, 2))
    queue = CellQueue(cells)

    def take(worker: int) -> tuple[str, int] | None:
        assignment = queue.take(worker)
        return None if assignment is None else (assignment.cell.variant, assignment.cell.seed)

    # Each worker begins with its own graph and seed.
    assert [take(0), take(1)] == [("plain", 0), ("plain", 1)]
    queue.done(Outcome(cells[0], {}))
    # It stays where its teacher is; a third one takes a group that is not started.
    assert [take(0), take(2)] == [("mixture", 0), ("plain", 2)]
    # The teachers of both remaining cells are under way; then everything is assigned.
    assert [take(0), take(0), take(0)] == [("mixture", 1), ("mixture", 2), None]


def test_cells_that_others_run_come_back_in_turn() -> None:
    cells, told = tiny_grid(("transductive",), (0, 1)), []
    queue = CellQueue(cells, told.append)
    first = queue.take(0)
    assert first is not None
    assert first.patience == 0
    queue.done(Outcome(first.cell, None, taken=True))
    # Another process has this teacher under way, so the next cell is of another group.
    second = queue.take(0)
    assert second is not None
    assert second.cell.seed != first.cell.seed
    queue.done(Outcome(second.cell, None, taken=True))
    left = [queue.take(0), queue.take(0)]
    for assignment in left:
        assert assignment is not None
        queue.done(Outcome(assignment.cell, {}))
    assert told == []
    for expected in (first, second, first):
        again = queue.take(0)
        assert again is not None
        assert again.cell == expected.cell
        assert again.patience > 0
        queue.done(Outcome(again.cell, None, taken=True))
    assert told == [2]

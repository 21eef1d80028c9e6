"""`dgl-rbm compare` and `dgl-rbm report` as they are typed."""

from __future__ import annotations

import csv
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.console.cells import CellProgress
from dgl_rbm.experiments.executors import EXECUTORS

SMALL = ["--set", "dataset.num_nodes=150", "--set", "training.epochs=4", "--set", "teacher.training.epochs=4"]


@pytest.fixture(autouse=True)
def in_a_folder_and_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    # Other processes are tried in tests/experiments; each takes seconds to start.
    monkeypatch.setitem(EXECUTORS, "processes", EXECUTORS["inline"])


def invoke(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_from_methods_to_tables_and_a_page(tmp_path: Path) -> None:
    command = ["compare", "--methods", "glnn,krd", "--datasets", "synthetic", "--seeds", "2", "--out", "out", *SMALL]
    result = invoke(*command)
    for expected in ("Test accuracy, transductive", "Test accuracy, inductive", "sage (teacher)", "glnn", "krd"):
        assert expected in result.stdout
    assert "[8/8]" in result.stderr
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["regularizer"] for row in rows} == {"none", "krd"}
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["methods"] == ["glnn", "krd"]
    assert "--seeds 2" in record["command"]
    for name in ("tables.md", "tables.tex"):
        assert "krd" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    kept = record | {"hardware": record["hardware"] | {"cpu": "Another"}}
    (tmp_path / "out" / "comparison.json").write_text(json.dumps(kept))
    again = invoke(*command, "--json", "--report", "page.md")
    # Nothing was run here, so it was not run on this machine.
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["hardware"]["cpu"] == "Another"
    assert "8 of them kept" in again.stderr
    assert len(json.loads(again.stdout)) == 8
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    (tmp_path / "taken").write_text("mine")
    refused = invoke("report", "out", "--figures", "taken", code=2)
    assert "--figures taken is a file; expected a folder" in refused.stderr
    refused = invoke("report", "out", "--out", "taken.md", code=2)
    assert "--out taken.md: the folder of its figures, taken is a file" in refused.stderr
    assert not (tmp_path / "results.md").exists()
    assert not (tmp_path / "taken.md").exists()
    assert "Wrote results.md" in invoke("report", "out").stdout
    assert page.replace("](page/", "](results/") == (tmp_path / "results.md").read_text(encoding="utf-8")


def test_a_failed_run_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    result = invoke(
        *("compare", "--methods", "glnn", "--datasets", "synthetic,missing.bin", "--seeds", "1", "--out", "out"),
        *("--settings", "transductive", "--set", "training.epochs=3", "--set", "teacher.training.epochs=3"),
        code=1,
    )
    assert "1 of 2 runs failed" in result.stderr
    assert "missing.bin" in result.stderr
    assert len(list((tmp_path / "out" / "errors").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "glnnn"], "There is no method 'glnnn'. Did you mean 'glnn"),
        (["--datasets", "digitz"], "There is no dataset 'digitz'. Did you mean 'digits'"),
        (["--settings", "production"], "There is no setting 'production'"),
        (["--seeds", "some"], "'some' stands for no seeds"),
        (["--recipe", "mine"], "There is no recipe 'mine'"),
        (["--set", "training.epoch=3"], "Did you mean 'epochs'"),
        (["--methods", ","], "no methods"),
        (["--settings", "transductif"], "Did you mean 'transductive'"),
        (["--jobs", "0"], "--jobs"),
        (["--device", "gpu"], "There is no device 'gpu'"),
        (["--methods", "cohop", "--teacher", "sgae"], "There is no teacher 'sgae'. Did you mean 'sage'"),
        (["--methods", "krd,mlp-features", "--teacher", "sage"], "'krd' and 'mlp-features' are the same run"),
        (["--methods", "glnn,rbm", "--set", "student=mlp"], "'student' would be the same in all runs"),
    ],
)
def test_what_is_refused_before_anything_runs(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = invoke("compare", "--methods", "glnn", *arguments, code=2)
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_page_that_cannot_be_drawn_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = invoke("compare", "--methods", "glnn", "--report", "page.md", code=1)
    assert "dgl-rbm[plot]" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_page_that_is_a_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    result = invoke("compare", "--methods", "glnn", "--report", ".", code=2)
    assert "--report . is a folder; expected a file" in result.stderr
    (tmp_path / "taken").write_text("mine")
    result = invoke("compare", "--methods", "glnn", "--report", "taken.md", code=2)
    assert "--report taken.md: the folder of its figures, taken is a file" in result.stderr
    result = invoke("compare", "--methods", "glnn", "--report", "taken/page.md", code=2)
    assert "taken/page.md cannot be written" in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_the_record_is_of_the_command_that_made_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["compare", "--datasets", "synthetic", "--settings", "transductive", "--out", "out", *SMALL]
    invoke(*command, "--methods", "glnn", "--seeds", "1")
    record = tmp_path / "out" / "comparison.json"
    before, during = json.loads(record.read_text()), []
    on_cell = CellProgress.on_cell

    def look(self: Any, outcome: Any) -> None:
        during.append(json.loads(record.read_text()))
        on_cell(self, outcome)

    monkeypatch.setattr(CellProgress, "on_cell", look)
    invoke(*command, "--methods", "glnn,cohop", "--seeds", "1")
    assert during == [before]
    assert json.loads(record.read_text())["methods"] == ["glnn", "cohop"]
    # What is refused makes no rows.
    invoke(*command, "--methods", "rbm", "--max-hours", "-1", code=2)
    assert json.loads(record.read_text())["methods"] == ["glnn", "cohop"]


@pytest.mark.parametrize("command", [["compare", "--methods", "glnn"], ["study", "losses"]])
def test_a_request_to_terminate_does_what_ctrl_c_does(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(*args: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    # So that a signal which nobody takes ends this test alone.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    monkeypatch.setattr("dgl_rbm.experiments.runner.GridRun.execute", terminated)
    try:
        assert "the same command continues" in " ".join(invoke(*command, code=130).stderr.split())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    result = invoke("compare", "--methods", "glnn", "--out", "taken", code=2)
    assert "--out taken is a file; expected a folder" in result.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dgl_rbm.experiments.comparison.compare", interrupted)
    result = invoke("compare", "--methods", "glnn", code=130)
    assert "the same command continues" in " ".join(result.stderr.split())


def test_when_time_is_up(tmp_path: Path) -> None:
    result = invoke("compare", "--methods", "glnn", "--seeds", "1", "--max-hours", "1e-9", "--out", "out", code=75)
    assert "used up with 0 of 2 cells finished" in " ".join(result.stderr.split())
    assert (tmp_path / "out" / "results.csv").is_file()


def test_tables_are_of_the_runs_that_are_there_when_time_is_up(tmp_path: Path) -> None:
    few = ["compare", "--datasets", "synthetic", "--settings", "transductive", "--seeds", "1", "--out", "out", *SMALL]
    invoke(*few, "--methods", "glnn,rbm")
    invoke(*few, "--methods", "glnn,krd", "--max-hours", "1e-9", code=75)
    tables = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert "glnn" in tables
    assert "rbm" not in tables


def test_report_of_nothing() -> None:
    result = invoke("report", "nowhere", code=1)
    assert "nowhere" in result.stderr
    assert "dgl-rbm compare" in result.stderr


def test_the_defaults_are_methods() -> None:
    from dgl_rbm.experiments.options import DEFAULT_METHODS
    from dgl_rbm.methods import method_names

    assert set(DEFAULT_METHODS) <= set(method_names())

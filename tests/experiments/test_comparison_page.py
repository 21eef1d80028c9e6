"""The page of results is made of results.csv and comparison.json, and of nothing else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from dgl_rbm.errors import ArtifactError, ConfigError, MissingDependencyError
from dgl_rbm.experiments.page import render_page, write_page, write_tables
from dgl_rbm.experiments.record import command_line, read_record, write_record
from dgl_rbm.experiments.results import read_results, results_frame, to_records, write_results
from dgl_rbm.runtime.environment import hardware

from .test_comparison_tables import ROWS

ROOT = Path(__file__).resolve().parents[2]
GRAPHS = ("cpf-cora", "amazon-photo", "academic-cs", "cpf-cora-wide")
CHECKED_IN = [ROOT / "benchmarks" / "results" / "comparison" / name for name in GRAPHS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a comparison's folder with a few results."""
    folder = tmp_path / "comparison"
    write_results(folder / "results.csv", results_frame(ROWS))
    write_record(folder, "dgl-rbm compare --methods a,b,c", {"methods": ["a", "b", "c"]})
    return folder


def test_the_page_and_its_figures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "results.md"
    written = write_page([folder], out)
    assert written[-1] == out
    page = out.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert pictures == ["results/accuracy-transductive.png", "results/size-transductive.png"]
    for picture in pictures:
        assert (out.parent / picture).read_bytes().startswith(b"\x89PNG")
    for expected in ("**92.00 ± 2.83**", "| median Score |", "Skillings-Mack", "it broke", "## Costs, digits"):
        assert expected in page
    record = read_record(folder)
    assert f"```text\n{record['command']}\n```" in page
    assert f"torch {record['versions']['torch']}" in page
    assert record["hardware"]["cpu"] in page
    # The same from the same files, in any other place.
    elsewhere = tmp_path / "elsewhere" / "comparison"
    shutil.copytree(folder, elsewhere)
    assert render_page([elsewhere], "results") == page


def test_several_comparisons_on_one_page(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_results(other / "results.csv", results_frame([{**row, "dataset": "wine"} for row in ROWS]))
    write_record(other, "dgl-rbm compare --methods a --datasets wine", {"methods": ["a"]})
    (folder / "notes.md").write_text("First.", encoding="utf-8")
    (other / "notes.md").write_text("Second.", encoding="utf-8")
    page = render_page([folder, other], "figures")
    assert "comparison/results.csv`, `other/results.csv" in page
    assert re.search(r"\| *digits \|.* wine \|", page)
    assert page.index("First.") < page.index("Second.") < page.index("## Figures")
    origin = page[page.index("## How these were made") :]
    assert origin.index("--methods a,b,c") < origin.index("--datasets wine") < origin.index("torch ")
    # One machine, said once; another one is said for each.
    assert origin.count("GiB of memory") == 1
    record = json.loads((other / "comparison.json").read_text(encoding="utf-8"))
    record["hardware"]["cpu"] = "Another"
    (other / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    origin = render_page([folder, other], "figures").split("## How these were made")[1]
    assert origin.count("GiB of memory") == 2


def test_a_run_that_two_folders_hold_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    with pytest.raises(ConfigError, match=r"both hold the run .*digits, transductive"):
        render_page([folder, other], "figures")


def test_runs_on_different_splits_are_not_put_together(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_results(
        other / "results.csv", results_frame([{**row, "method": "d", "split": "0.6/0.2/0.2"} for row in ROWS])
    )
    with pytest.raises(ConfigError, match=r"of digits are of different splits: its own in .*, 0\.6/0\.2/0\.2 in"):
        render_page([folder, other], "figures")
    assert "0.6" not in render_page([folder], "figures").split("## Figures")[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "d", "dataset_id": "other"}, "of digits are of different options or files of the graph: same in"),
        ({"seed": 9, "options_id": "other"}, "of a, digits, transductive are of different options: same in .*, other"),
        ({"method": "d", "options_id": "other"}, None),
        ({"seed": 9, "setting": "inductive", "options_id": "other"}, None),
    ],
)
def test_runs_of_different_graphs_or_options_are_not_put_together(
    changes: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    """Of a method on a graph and setting alone options must be the same: published ones differ between these."""
    for name, rows in (("one", ROWS), ("other", [{**ROWS[0], **changes}])):
        same = [{"dataset_id": "same", "options_id": "same", **_given(row)} for row in rows]
        write_results(tmp_path / name / "results.csv", results_frame(same))
    folders = [tmp_path / "one", tmp_path / "other"]
    if message is None:
        assert "# Results" in render_page(folders, "figures")
    else:
        with pytest.raises(ConfigError, match=message):
            render_page(folders, "figures")


def _given(row: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if value is not None}


def test_a_comparison_that_runs_nothing_keeps_where_it_was_run(folder: Path) -> None:
    record = read_record(folder)
    record["hardware"]["cpu"] = "Another"
    (folder / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    write_record(folder, "dgl-rbm compare --methods a", {"methods": ["a"]}, is_new=False)
    kept = read_record(folder)
    assert (kept["command"], kept["methods"]) == ("dgl-rbm compare --methods a", ["a"])
    assert kept["hardware"]["cpu"] == "Another"
    write_record(folder, "dgl-rbm compare --methods a", {"methods": ["a"]})
    assert read_record(folder)["hardware"] == hardware()
    # One that cannot be read says nothing that could be kept.
    (folder / "comparison.json").write_text("[]", encoding="utf-8")
    write_record(folder, "dgl-rbm compare --methods a", {"methods": ["a"]}, is_new=False)
    assert read_record(folder)["hardware"] == hardware()


def test_text_of_your_own(folder: Path) -> None:
    (folder / "notes.md").write_text("## What we think\n\nNot much.\n", encoding="utf-8")
    page = render_page([folder], "figures")
    assert page.index("## Validation") < page.index("## What we think") < page.index("## Figures")


def test_without_matplotlib_nothing_is_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="matplotlib") as error:
        write_page([folder], tmp_path / "page.md")
    assert "dgl-rbm[plot]" in str(error.value.hint)
    assert not (tmp_path / "page.md").exists()


def test_results_come_back_as_they_were_written(folder: Path) -> None:
    results = read_results(folder / "results.csv")
    assert to_records(results) == ROWS
    write_tables(results, folder)
    assert {path.name for path in folder.glob("tables.*")} == {"tables.md", "tables.tex"}
    assert "\\begin{tabular}" in (folder / "tables.tex").read_text(encoding="utf-8")


def test_what_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        write_page([tmp_path], tmp_path / "page.md")
    (tmp_path / "results.csv").write_text("method,seed\na,0\n")
    with pytest.raises(ArtifactError, match="lacks the columns dataset"):
        write_page([tmp_path], tmp_path / "page.md")
    write_results(tmp_path / "results.csv", results_frame(ROWS))
    text = (tmp_path / "results.csv").read_text().replace("0.94", "many")
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(ArtifactError, match="line 5"):
        write_page([tmp_path], tmp_path / "page.md")
    write_results(tmp_path / "results.csv", results_frame(ROWS))
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"comparison\.json"):
        write_page([tmp_path], tmp_path / "page.md")


def test_results_that_were_damaged(folder: Path) -> None:
    path = folder / "results.csv"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for damaged, complaint in (
        (whole[:-150], r"line \d+: .*columns"),
        (lines[0] + lines[1].replace(b",ok,", b",,"), "line 2: 'status' is empty"),
        (lines[0] + lines[1].replace(b"\n", b",1\n"), "line 2: .*columns"),
        (lines[0], "holds no runs"),
        (b"", "lacks the columns"),
        (b"\xff\xfe" + whole, "cannot be read"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=complaint):
            render_page([folder], "figures")


@pytest.mark.parametrize("content", ["[]", "{}", '{"command": "x", "hardware": {}, "versions": {}}', '{"command": 3}'])
def test_a_record_of_something_else(folder: Path, content: str) -> None:
    (folder / "comparison.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"comparison\.json"):
        render_page([folder], "figures")


def test_a_page_whose_name_has_no_ending(folder: Path, tmp_path: Path) -> None:
    written = write_page([folder], tmp_path / "page")
    assert (tmp_path / "page").is_file()
    assert {path.parent for path in written[:-1]} == {tmp_path / "page-figures"}


def test_a_page_cannot_be_a_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; expected a file, such as .*results\.md"):
        write_page([folder], tmp_path)


def test_the_folder_that_one_is_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert render_page([Path()], "figures") == render_page([folder], "figures")


def test_errors_are_text_on_the_page(folder: Path) -> None:
    rows = [dict(row) for row in ROWS]
    for row in rows:
        if row["status"] != "ok":
            row["error"] = "a|b <script> of ValueError"
    write_results(folder / "results.csv", results_frame(rows))
    page = render_page([folder], "figures")
    assert "a\\|b \\<script> of ValueError" in page


def test_the_command_can_be_typed_again() -> None:
    options: dict[str, Any] = {
        "methods": "a,b",
        "split": None,
        "set": ["training.epochs=3", "encoder.0.kind=a b"],
        "jobs": 2,
        "out": Path("runs/x"),
    }
    command = command_line(options)
    assert shlex.split(command) == [
        *("dgl-rbm", "compare", "--methods", "a,b"),
        *("--set", "training.epochs=3", "--set", "encoder.0.kind=a b"),
        *("--jobs", "2", "--out", "runs/x"),
    ]
    # Where somebody's files lie is nobody else's business.
    assert command_line({"out": Path("/home/somebody/x")}).endswith("--out x")


def test_the_machine() -> None:
    machine = json.loads(json.dumps(hardware()))
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] is None or machine["memory_gib"] > 0.1


def test_the_documented_results_are_those_that_are_checked_in() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == render_page(CHECKED_IN, "results"), (
        f"docs/results.md is not what `dgl-rbm report {' '.join(str(part.relative_to(ROOT)) for part in CHECKED_IN)} "
        "--out docs/results.md` writes"
    )
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page):
        assert (ROOT / "docs" / picture).is_file()

"""Tables: means, places, Scores and notes by hand, and how they are written."""

from __future__ import annotations

import io
import re
import statistics
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from dgl_rbm.console.cells import print_tables
from dgl_rbm.experiments import tables
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.render import Piece, TextTable, to_latex, to_markdown, to_rich
from dgl_rbm.experiments.results import COLUMNS, results_frame
from dgl_rbm.experiments.studies.catalogue import load_study
from dgl_rbm.experiments.summary import summarize


def row(method: str, dataset: str, seed: int, accuracy: float | None, **changes: Any) -> dict[str, Any]:
    """Return a row of results.csv; without an accuracy the run failed."""
    known = {
        "method": method,
        "dataset": dataset,
        "setting": "transductive",
        "seed": seed,
        "status": "ok" if accuracy is not None else "failed",
        "error": None if accuracy is not None else "it broke",
        "teacher": "sage",
        "teacher_id": "aa",
        "test_accuracy": accuracy,
        "val_accuracy": accuracy,
        "teacher_test_accuracy": None if accuracy is None else 0.6,
        "teacher_val_accuracy": None if accuracy is None else 0.6,
        "parameters": 1000,
        "active_parameters": 500,
        "latency_us": 12.34,
    }
    return {column: (known | changes).get(column) for column in COLUMNS}


ROWS = [
    row("a", "digits", 0, 0.80),
    row("a", "digits", 1, 0.82),
    row("b", "digits", 0, 0.90),
    row("b", "digits", 1, 0.94),
    row("c", "digits", 0, 0.70),
    row("c", "digits", 1, None),
    row("a", "cpf-cora", 0, 0.75),
    row("a", "cpf-cora", 1, 0.77),
    row("b", "cpf-cora", 0, 0.76),
    row("b", "cpf-cora", 1, 0.76),
]


def accuracy_table(rows: list[dict[str, Any]], setting: str, metric: str = "test_accuracy") -> TextTable | None:
    return tables.accuracy_table(results_frame(rows), setting, metric)


def cost_table(rows: list[dict[str, Any]], dataset: str) -> TextTable | None:
    return tables.cost_table(results_frame(rows), dataset)


def texts(table: TextTable) -> dict[str, list[str]]:
    return {line[0].text: [piece.text for piece in line[1:]] for line in table.rows}


def places(table: TextTable) -> dict[str, list[int]]:
    return {line[0].text: [piece.place for piece in line[1:]] for line in table.rows}


def test_means_spreads_places_and_scores_by_hand() -> None:
    table = accuracy_table(ROWS, "transductive")
    assert table is not None
    assert table.title == "Test accuracy, transductive"
    assert list(table.columns) == ["", "digits", "cpf-cora", "paper", "median Score"]
    assert table.separated == 1
    # Scores on digits: sage 0, a (81-60)/32, b 1, c (70-60)/32; on cpf-cora: sage 0, a 1, b 1.
    assert texts(table) == {
        "sage (teacher)": ["60.00 ± 0.00", "60.00 ± 0.00", "82.08", "0.0000"],
        "a": ["81.00 ± 1.41", "76.00 ± 1.41", "–", "0.8281"],
        "b": ["92.00 ± 2.83", "76.00 ± 0.00", "–", "1.0000"],
        "c": ["70.00 (1 of 2)", "–", "–", "–"],
    }
    # Equal to the last printed digit is equal; the teacher takes no part.
    assert places(table) == {
        "sage (teacher)": [0, 0, 0, 0],
        "a": [2, 1, 0, 2],
        "b": [1, 1, 0, 1],
        "c": [0, 0, 0, 0],
    }
    notes = " ".join(table.notes)
    assert "seeds 0, 1;" in notes
    assert "1 of 10 runs failed" in notes
    assert "no place and no Score" in notes
    assert "Skillings-Mack test over 2 graphs: T =" in notes
    assert "Skillings-Mack test over 4 graphs and seeds: T =" in notes


def test_means_over_fewer_seeds_are_ranked_with_nothing() -> None:
    # "wide" is better than "a" on each seed that it has, and has the better mean because its seed is an easy one.
    rows = [row("a", "digits", seed, accuracy) for seed, accuracy in enumerate((0.90, 0.70))]
    rows += [row("b", "digits", seed, accuracy) for seed, accuracy in enumerate((0.80, 0.70))]
    table = accuracy_table([*rows, row("wide", "digits", 0, 0.91)], "transductive")
    assert table is not None
    assert places(table) == {"sage (teacher)": [0, 0], "a": [1, 1], "b": [2, 2], "wide": [0, 0]}
    assert texts(table)["wide"] == ["91.00 (1 of 2)", "–"]
    assert texts(table)["a"] == ["80.00 ± 14.14", "1.0000"]
    # A whole method keeps its Score on one graph of two, and is not ranked with medians over both.
    other = [row(method, "wine", 0, accuracy) for method, accuracy in (("a", 0.7), ("b", 0.9))]
    more = [row("wide", "digits", seed, 0.95) for seed in (0, 1)]
    table = accuracy_table([*rows, *more, *other], "transductive")
    assert table is not None
    assert texts(table)["wide"][-1] == "1.0000 (1 of 2 graphs)"
    assert [places(table)[name][-1] for name in ("a", "b", "wide")] == [2, 1, 0]


def test_means_are_shown_where_nobody_has_all_seeds() -> None:
    table = accuracy_table([row("a", "digits", 0, 0.8), row("b", "digits", 1, 0.9)], "transductive")
    assert table is not None
    # The teacher was trained for both seeds.
    assert texts(table) == {
        "sage (teacher)": ["60.00 ± 0.00", "1.0000"],
        "a": ["80.00 (1 of 2)", "–"],
        "b": ["90.00 (1 of 2)", "–"],
    }
    assert not any(map(any, places(table).values()))
    without_teacher = {"teacher": "none", "teacher_test_accuracy": None}
    rows = [row("a", "digits", 0, 0.8, **without_teacher), row("b", "digits", 1, None, **without_teacher)]
    table = accuracy_table(rows, "transductive")
    assert table is not None
    # A seed that nobody has finished is nobody's advantage.
    assert texts(table) == {"a": ["80.00", "1.0000"], "b": ["–", "–"]}
    assert "1 of 2 runs failed" in " ".join(table.notes)


def test_summaries_are_of_finished_runs_and_samples() -> None:
    found = summarize(results_frame(ROWS), "test_accuracy")
    assert found["digits", "c"].runs == 1
    assert found["digits", "c"].std == 0
    assert found["digits", "b"].std == pytest.approx(statistics.stdev([0.90, 0.94]))
    assert found["digits", "b"].by_seed == {0: 0.90, 1: 0.94}
    assert ("cpf-cora", "c") not in found


def test_the_papers_value_stands_beside_its_graphs_only() -> None:
    def columns(dataset: str, **changes: Any) -> list[str]:
        table = accuracy_table([row("rbm", dataset, 0, 0.8, **changes)], "transductive")
        assert table is not None
        return list(table.columns)

    assert "paper" in columns("cpf-cora")
    assert "paper" not in columns("cora")
    assert "paper" not in columns("digits")
    assert "paper" not in columns("cpf-cora", split="0.6/0.2/0.2")
    assert "paper" not in columns("cpf-cora", teacher="appnp")
    table = accuracy_table([row("rbm", "cpf-cora", 0, 0.8)], "transductive")
    assert table is not None
    assert texts(table)["rbm"] == ["80.00", "84.86", "1.0000"]
    assert any("best test accuracy" in note for note in table.notes)
    validation = accuracy_table([row("rbm", "cpf-cora", 0, 0.8)], "transductive", "val_accuracy")
    assert validation is not None
    assert list(validation.columns) == ["", "cpf-cora"]


def test_a_teacher_counts_once_however_many_share_it_and_different_ones_are_told_apart() -> None:
    shared = [row(method, "digits", seed, 0.9) for method in ("a", "b") for seed in (0, 1)]
    own = [row("c", "digits", seed, 0.9, teacher_id="bb", teacher_test_accuracy=0.7) for seed in (0, 1)]
    none = [
        row("d", "digits", seed, 0.9, teacher="none", teacher_id="cc", teacher_test_accuracy=None) for seed in (0, 1)
    ]
    table = accuracy_table([*shared, *own, *none], "transductive")
    assert table is not None
    assert [line[0].text for line in table.rows[: table.separated]] == [
        "sage (teacher of a, b)",
        "sage (teacher of c)",
    ]
    assert texts(table)["sage (teacher of c)"][0] == "70.00 ± 0.00"


def test_tables_without_runs_are_left_out() -> None:
    assert accuracy_table(ROWS, "inductive") is None
    assert accuracy_table(ROWS, "transductive", "production_accuracy") is None
    assert cost_table([row("a", "digits", 0, None)], "digits") is None
    titles = [table.title for table in tables.comparison_tables(results_frame(ROWS))]
    assert titles == [
        "Test accuracy, transductive",
        "Validation accuracy, transductive",
        "Costs, digits",
        "Costs, cpf-cora",
    ]


def test_costs() -> None:
    table = cost_table(ROWS, "digits")
    assert table is not None
    assert texts(table)["a"][:3] == ["1,000", "500", "12.3"]


TABLE = TextTable(
    "50 % of A_1 & B",
    ["", "x|y"],
    [[Piece("t"), Piece("1 ± 2")], [Piece("m<1>"), Piece("3", 1)], [Piece("n|n"), Piece("4 µs", 2)]],
    ["A note."],
    1,
)


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "## 50 % of A_1 & B",
        "",
        "|  | x\\|y |",
        "|---|---:|",
        "| t | 1 ± 2 |",
        "| m\\<1> | **3** |",
        "| n\\|n | <u>4 µs</u> |",
        "",
        "A note.",
    ]


def test_latex() -> None:
    text = to_latex(TABLE)
    assert r"\caption{50 \% of A\_1 \& B. A note.}" in text
    assert text.index(r"t & 1 $\pm$ 2 \\") < text.rindex(r"\midrule") < text.index("m$<$1")
    assert r"m$<$1$>$ & \textbf{3} \\" in text
    assert r"\underline{4 $\mu$s}" in text
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert opened == ["table", "tabular"] == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    assert text.count("{") == text.count("}")


def test_what_pdflatex_has_no_letters_for_is_written_in_commands() -> None:
    names = [choice.name for choice in load_study("annealing").choices(ExperimentOptions())]
    notes = ["'–' where 3 ≤ µ × 2 ± 1 | α"]
    text = to_latex(TextTable("Annealing", ["", "n"], [[Piece(name), Piece("1")] for name in names], notes))
    assert text.isascii()
    assert r"$\Delta$ = 0.05 & 1 \\" in text
    assert r"3 $\leq$ $\mu$ $\times$ 2 $\pm$ 1 \textbar{} $\alpha$" in text


def test_terminal() -> None:
    console = Console(width=60, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(to_rich(TABLE))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m" in text
    assert "\x1b[4m4 µs" in text
    assert "A note." in text


def test_a_note_of_several_tables_is_printed_once() -> None:
    console = Console(width=80, file=io.StringIO())
    other = replace(TABLE, title="Another table", notes=["Its own note.", *TABLE.notes])
    print_tables(console, [TABLE, other])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("A note.") == 1
    assert text.index("Another table") < text.index("Its own note.") < text.index("A note.")


@pytest.mark.parametrize("width", [30, 45, 60, 80, 200])
def test_no_number_is_cut_on_a_narrow_terminal(width: int) -> None:
    columns = ["", *(f"heading number {i}" for i in range(9))]
    rows = [[Piece(name), *(Piece(f"{97.25 + i:.2f} ± {j}.00") for i in range(9))] for j, name in enumerate("abc")]
    console = Console(width=width, file=io.StringIO())
    console.print(to_rich(TextTable("Wide", columns, rows, separated=1)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        for piece in row[1:]:
            assert text.count(piece.text) == 1
    # Every part of the table has the names.
    names = [line.strip()[:1] for line in text.splitlines() if "±" in line]
    assert "".join(names) == "abc" * (len(names) // 3)
    assert (len(names) == 3) == (width == 200)


def test_a_title_is_text_in_markdown() -> None:
    table = TextTable("Costs, <b>|x", ["", "n"], [[Piece("a"), Piece("1")]])
    assert to_markdown(table).startswith("## Costs, \\<b>\\|x\n")


def test_seeds_are_those_of_each_graph() -> None:
    rows = [row("a", "digits", seed, 0.8) for seed in range(4)] + [row("b", "digits", seed, 0.8) for seed in (0, 2)]
    rows += [row(method, "cpf-cora", seed, 0.7) for method in "ab" for seed in (0, 1)]
    table = accuracy_table(rows, "transductive")
    assert table is not None
    assert "over the seeds 0 to 3 of digits, 0, 1 of cpf-cora;" in " ".join(table.notes)
    # Few of its own graph's seeds, not of all graphs'.
    assert [piece.text for piece in table.rows[2]][1:3] == ["80.00 ± 0.00 (2 of 4)", "70.00 ± 0.00"]
    alike = accuracy_table([entry for entry in rows if entry["seed"] < 2 and entry["method"] == "a"], "transductive")
    assert alike is not None
    assert "over the seeds 0, 1;" in " ".join(alike.notes)

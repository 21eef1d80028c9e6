"""The studies whose result is accuracies, on a tiny graph: what is run, what is written, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.commands.options import STUDY_NAMES
from dgl_rbm.errors import ConfigError, MissingDependencyError, TimeBudgetError, UnknownNameError
from dgl_rbm.experiments.listener import Listener
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.results import read_results, results_frame, to_records
from dgl_rbm.experiments.studies.catalogue import STUDIES, load_study
from dgl_rbm.experiments.summary import by_place

Options = Callable[..., ExperimentOptions]


def is_drawn(path: Path) -> bool:
    """Whether the file holds a picture of some size in several colours."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return min(pixels.shape[:2]) > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3


class Cells(Listener):
    def __init__(self) -> None:
        self.titles: list[str] = []

    def on_cell(self, outcome: Any) -> None:
        self.titles.append(outcome.cell.title)


def test_the_command_line_lists_the_studies() -> None:
    assert sorted(STUDY_NAMES) == sorted(STUDIES)
    assert all(name == kind.name and kind.summary and kind.title for name, kind in STUDIES.items())


def test_unknown_studies_and_values_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'losses'"):
        load_study("looses")
    with pytest.raises(ConfigError, match="'losses' takes no values"):
        load_study("losses", ["3"])
    with pytest.raises(ConfigError, match="'many' is none of the numbers of experts"):
        load_study("experts", ["many"])
    with pytest.raises(ConfigError, match="at least 1"):
        load_study("experts", ["0"])
    with pytest.raises(ConfigError, match="0 ≤ Δ < 1"):
        load_study("annealing", ["1"])
    with pytest.raises(ConfigError, match="no teacher 'sagge'; did you mean 'sage'"):
        load_study("teachers", ["gcn+sagge"])
    with pytest.raises(ConfigError, match="has no values"):
        load_study("experts", [])
    with pytest.raises(UnknownNameError, match="no recipe 'own'"):
        ExperimentOptions(tmp_path, recipe="own")  # type: ignore[arg-type]
    result = CliRunner().invoke(app, ["study", "looses"])
    assert result.exit_code == 2
    assert "Did you mean 'losses'" in result.output


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("losses", "student.commitment_weight=0"),
        ("experts", "student=rbm"),
        ("experts", "student.num_experts=4"),
        ("annealing", "student.annealing=0.1"),
        ("teachers", "teacher=gcn"),
        ("inflated", "student.width_factor=2"),
        ("complexity", "student.hidden_dim=9"),
        ("pareto", "encoder=none"),
        ("pareto", "dataset.split=20/30"),
        ("routing", "student.num_experts=4"),
    ],
)
def test_what_a_study_varies_cannot_be_set(tiny: Options, name: str, override: str) -> None:
    with pytest.raises(ConfigError, match=f"the study '{name}' varies"):
        load_study(name).execute(tiny(override))


def test_losses_are_switched_off_one_by_one(tiny: Options) -> None:
    cells = load_study("losses").cells(tiny(seeds=[0]))
    weights = {
        cell.variant: [
            getattr(cell.config.student, f"{loss}_weight") > 0
            for loss in ("commitment", "self_similarity", "load_balance")
        ]
        for cell in cells
    }
    assert weights == {
        "rbm": [True, True, True],
        "rbm-without-commitment": [False, True, True],
        "rbm-without-self-similarity": [True, False, True],
        "rbm-without-load-balance": [True, True, False],
        "rbm-kd-only": [False, False, False],
    }


def test_settings_of_the_paper_are_kept_but_for_what_is_varied(tiny: Options) -> None:
    options = tiny(datasets=["cpf-cora"], seeds=[0], overrides=[])
    cells = load_study("experts", [2, 5]).cells(options)
    found = [(c.config.student.num_experts, c.config.student.top_k) for c in cells]  # type: ignore[attr-defined]
    assert found == [(2, 2), (5, 3)]
    # The published width for Cora, which is not this package's.
    assert {c.config.student.hidden_dim for c in cells} == {512}  # type: ignore[attr-defined]
    default = load_study("experts", [5]).cells(tiny(datasets=["cpf-cora"], recipe="default", overrides=[]))
    assert {c.config.student.hidden_dim for c in default} == {None}  # type: ignore[attr-defined]
    deltas = [c.config.student.annealing for c in load_study("annealing").cells(options)]  # type: ignore[attr-defined]
    assert deltas == [0.0, 0.05, 0.1, 0.5, 0.9]


def test_a_study_runs_writes_and_continues(tiny: Options, tmp_path: Path) -> None:
    first, second = Cells(), Cells()
    settings = ["inductive"]
    report = load_study("experts", [2, 3]).execute(tiny(settings=settings, listener=first))
    assert len(first.titles) == 4
    rows = read_results(tmp_path / "results.csv")
    values = rows.loc[rows["method"] == "3 experts", "test_accuracy"].tolist()
    summary = by_place(rows)["synthetic", "inductive"]["3 experts"]
    assert (summary.mean, summary.std, summary.runs) == pytest.approx((mean(values), stdev(values), 2))
    assert f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}" in report.to_markdown()
    assert is_drawn(tmp_path / "experts.png")
    written = {name: (tmp_path / name).read_text() for name in ("experts.md", "experts.tex")}
    assert "validation picks" in written["experts.md"]
    assert "![Number of experts](experts.png)" in written["experts.md"]
    assert r"\begin{tabular}" in written["experts.tex"]
    again = load_study("experts", [2, 3]).execute(tiny(settings=settings, listener=second))
    assert second.titles == []
    assert again.to_markdown() == written["experts.md"]


def test_the_losses_and_the_baselines_run(tiny: Options, tmp_path: Path) -> None:
    report = load_study("losses").execute(tiny(seeds=[0], out=tmp_path / "losses"))
    assert "rbm-kd-only" in report.to_markdown()
    assert is_drawn(tmp_path / "losses" / "losses.png")
    # Not the teacher's options: CoHOp+ has none.
    few = ["dataset.num_nodes=80", "training.epochs=3"]
    report = load_study("inflated").execute(tiny(seeds=[0], out=tmp_path / "inflated", overrides=few))
    assert len(report.failed) == 0
    rows = {row["method"]: row for row in to_records(read_results(tmp_path / "inflated" / "results.csv"))}
    assert list(rows) == ["glnn+", "krd+", "nosmog+", "cohop+", "rbm"]
    assert is_drawn(tmp_path / "inflated" / "inflated.png")


def test_each_method_learns_from_each_teacher(tiny: Options, tmp_path: Path) -> None:
    report = load_study("teachers", ["gcn", "appnp"]).execute(tiny(seeds=[0]))
    rows = to_records(read_results(tmp_path / "results.csv"))
    assert [(row["method"], row["teacher"]) for row in rows] == [
        ("krd from gcn", "gcn"),
        ("rbm from gcn", "gcn"),
        ("krd from appnp", "appnp"),
        ("rbm from appnp", "appnp"),
    ]
    # One teacher for both students.
    assert rows[0]["teacher_test_accuracy"] == rows[1]["teacher_test_accuracy"]
    assert "appnp (teacher" in report.to_markdown()
    assert is_drawn(tmp_path / "teachers.png")


def test_several_teachers_are_one_choice(tiny: Options) -> None:
    options = tiny(seeds=[0], overrides=["dataset.num_nodes=80"])
    teachers = [cell.config.teacher for cell in load_study("teachers", ["sage", "sage+gcn"]).cells(options)]
    assert [teacher.kind for teacher in teachers] == ["sage", "sage", "average", "average"]


def test_another_teacher_for_a_whole_study(tiny: Options) -> None:
    of_all = tiny(seeds=[0], overrides=[], datasets=["cpf-cora"], teacher="gcn")
    for name in ("losses", "inflated", "routing", "pareto"):
        cells = load_study(name).cells(of_all)
        assert {cell.config.teacher.kind for cell in cells if not cell.variant.startswith("cohop")} == {"gcn"}
        # With the settings published for it.
        assert {cell.config.teacher.hidden_dim for cell in cells if cell.variant == "rbm"} <= {1024}  # type: ignore[attr-defined]
    cohop = next(cell for cell in load_study("inflated").cells(of_all) if cell.variant == "cohop+")
    assert cohop.config.teacher.kind == "none"
    with pytest.raises(ConfigError, match="the study 'teachers' varies the teacher itself"):
        load_study("teachers").cells(of_all)


def test_findings_rank_means_over_all_seeds_alone() -> None:
    def rows(**accuracies: list[float]) -> list[dict[str, Any]]:
        return [
            {"method": name, "dataset": "g", "setting": "s", "seed": seed, "status": "ok"}
            | {"test_accuracy": value, "val_accuracy": value}
            for name, values in accuracies.items()
            for seed, value in enumerate(values)
        ]

    annealing = load_study("annealing")

    def finding(found: list[dict[str, Any]]) -> str:
        summaries = by_place(results_frame(found))["g", "s"]
        return annealing.finding(summaries, summaries)  # type: ignore[attr-defined, no-any-return]

    assert finding(rows(few=[0.9], all=[0.5, 0.5])) == (
        "validation picks 'all' (50.00 ± 0.00), which has 50.00 ± 0.00 on test; left out, since they lack seeds: 'few'."
    )
    disjoint = [{**row, "seed": seed} for seed, row in enumerate(rows(a=[0.1], b=[0.2]))]
    assert "nothing is picked" in finding(disjoint)


def test_failed_runs_are_counted_and_named(tiny: Options, tmp_path: Path) -> None:
    # A learning rate that is no longer finite in float32 after a step.
    report = load_study("annealing", [0.0]).execute(tiny("training.lr=1.0e+38"))
    assert len(report.failed) == 2
    assert "2 of 2 runs failed" in report.findings[-1]
    assert list((tmp_path / "errors").iterdir())
    assert not report.figures


def test_time_runs_out_and_the_rest_is_done_later(tiny: Options, tmp_path: Path) -> None:
    with pytest.raises(TimeBudgetError, match="used up"):
        load_study("annealing", [0.0]).execute(tiny(max_hours=1e-9))
    assert load_study("annealing", [0.0]).execute(tiny()).failed.empty


def test_matplotlib_is_asked_for_before_any_work(
    tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"dgl-rbm\[plot\]"):
        load_study("annealing", [0.0]).execute(tiny())
    assert not list(tmp_path.iterdir())


def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    settings = [f"--set={override}" for override in ("dataset.num_nodes=80", "teacher.training.epochs=3")]
    command = ["study", "annealing", "--values", "0,0.5", "--datasets", "synthetic", "--seeds", "1"]
    result = CliRunner().invoke(app, [*command, "--set=training.epochs=3", *settings, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Δ = 0.5" in result.output
    assert "annealing.md" in result.output
    assert len(read_results(tmp_path / "results.csv")) == 2

"""The studies of costs: what is counted, measured and judged, on a tiny graph."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.load import load_task
from dgl_rbm.evaluation.complexity import multiply_adds
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.results import read_results, to_records
from dgl_rbm.experiments.studies.catalogue import load_study
from dgl_rbm.registry import students

Options = Callable[..., ExperimentOptions]


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with few requests: the times themselves are not tested."""
    monkeypatch.setattr("dgl_rbm.experiments.studies.measure.REPEATS", 6)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_complexity_counts_what_is_built(tiny: Options, tmp_path: Path) -> None:
    report = load_study("complexity", [4, 12]).execute(tiny("encoder=none", settings=["transductive"]))
    rows = read(tmp_path / "complexity.csv")
    assert len(rows) == 2 * 2 * 4
    for width in (4, 12):
        of_width = [row for row in rows if int(row["rbm_width"]) == width]
        equal = {row["student"]: row for row in of_width if row["equal"] == "equal width"}
        assert {int(row["width"]) for row in equal.values()} == {width}
        # Six features, and as many classes as the graph has; the default depth is the teacher's.
        classes = load_task({"kind": "synthetic", "num_nodes": 80, "num_features": 6}).num_classes
        mlp = students.resolve("mlp").build(6, classes, hidden_dim=width, num_layers=2)
        assert int(equal["mlp"]["parameters"]) == mlp.num_parameters() == int(equal["mlp"]["active_parameters"])
        assert float(equal["mlp"]["multiply_adds"]) == multiply_adds(mlp)
        assert int(equal["ensemble3"]["parameters"]) == 3 * mlp.num_parameters()
        assert int(equal["rbm"]["active_parameters"]) < int(equal["rbm"]["parameters"])
        wanted = int(equal["rbm"]["active_parameters"])
        sized = {row["student"]: row for row in of_width if row["equal"] == "equal active size"}
        assert int(sized["rbm"]["width"]) == width
        for name, row in sized.items():
            step = 3 * 8 * (6 + classes + 1 + width)
            assert abs(int(row["active_parameters"]) - wanted) <= step, name
        assert all(float(row["single_us"]) > 0 and float(row["batch_us"]) > 0 for row in of_width)
        assert {row["single_ratio"] for row in of_width if row["student"] == "mlp"} == {"1.0"}
    assert not list(tmp_path.glob("cells")), "nothing is trained"
    assert "times the multiply-adds of the perceptron" in report.to_markdown()
    assert min(matplotlib.image.imread(tmp_path / "complexity.png").shape[:2]) > 300


def test_encodings_count_as_columns(tiny: Options, tmp_path: Path) -> None:
    load_study("complexity", [4]).execute(tiny('encoder={"kind": "diffusion", "dim": 5}'))
    rows = read(tmp_path / "complexity.csv")
    mlp = next(row for row in rows if (row["student"], row["equal"]) == ("mlp", "equal width"))
    classes = load_task({"kind": "synthetic", "num_nodes": 80, "num_features": 6}).num_classes
    assert float(mlp["multiply_adds"]) == (6 + 5) * 4 + 4 * classes


def test_pareto_compares_all_sizes_on_both_splits(tiny: Options, tmp_path: Path) -> None:
    report = load_study("pareto", [4]).execute(tiny("training.epochs=1", "teacher.training.epochs=1", seeds=[3]))
    points, budgets = read(tmp_path / "points.csv"), read(tmp_path / "budgets.csv")
    runs = to_records(read_results(tmp_path / "results.csv"))
    # Two splits, with and without encodings, four students.
    assert len(runs) == len(points) == 2 * 2 * 4
    by_name = {row["method"]: row for row in runs}
    for point in points:
        split = "own split" if point["split"] == "own" else point["split"]
        run = by_name[f"{point['method']}-{point['width']}, {point['encodings']}, {split}"]
        assert float(point["test_accuracy"]) == run["test_accuracy"]
        assert run["encoder"] == ("none" if point["encodings"] == "features alone" else "diffusion")
        # Counted on a student that was not trained, and reported by the one that was.
        assert int(point["parameters"]) == run["parameters"]
        if run["best_epoch"] > 10 or point["method"] != "rbm":
            assert int(point["active_parameters"]) == run["active_parameters"]
    assert {row["cost"] for row in budgets} == {"active_parameters", "multiply_adds", "single_us", "batch_us"}
    for row in budgets:
        gap = float(row["best_test"]) - float(row["rbm_test"]) if row["best_test"] else 0.0
        assert float(row["gap"]) == pytest.approx(gap)
        assert row["on_front"] == str(gap <= 0)
    assert [figure.name for figure in report.figures] == [
        "pareto-synthetic-transductive-own.png",
        "pareto-synthetic-transductive-0.6_0.2_0.2.png",
    ]
    assert all(min(matplotlib.image.imread(figure).shape[:2]) > 300 for figure in report.figures)
    text = (tmp_path / "pareto.md").read_text()
    assert "RbM at every budget" in text
    assert "on the front" in text


def test_pareto_on_a_graph_given_by_its_path_with_a_run_that_failed(
    tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures lie in the study's folder, and a size with fewer seeds than others is judged by nothing."""
    monkeypatch.chdir(tmp_path)
    task = load_task({"kind": "synthetic", "num_nodes": 80, "num_features": 6})
    graph = task.graph.clone()
    graph.ndata["feat"], graph.ndata["label"] = task.features, task._labels
    (tmp_path / "graphs").mkdir()
    dgl.save_graphs("graphs/mine.bin", [graph])
    quick = ["training.epochs=1", "teacher.training.epochs=1", "teacher.hidden_dim=4", "student.dropout=0.1"]
    options = tiny(datasets=["graphs/mine.bin"], overrides=quick, split="0.5/0.2/0.3", out=tmp_path / "out")
    study = load_study("pareto", [4])
    data = study.run(options)
    whole = study.report(data, options)
    assert [figure.parent for figure in whole.figures] == [tmp_path / "out"]
    assert whole.figures[0].is_file()
    assert not whole.findings
    rows = data.results
    failed = rows.index[rows["method"].str.startswith("rbm") & (rows["seed"] == 1)][0]
    rows.loc[failed, "status"] = "failed"
    name = rows.loc[failed, "method"]
    report = study.report(data, options)
    assert len(report.data["points"]) == 2 * 4
    assert report.findings[0].endswith(f"left out, since they lack seeds: {name}.")
    assert set(report.data["budgets"]["encodings"]) == {
        encodings for encodings in ("encodings", "features alone") if encodings not in name
    }


def test_pareto_takes_a_split_in_place_of_both(tiny: Options) -> None:
    cells = load_study("pareto", [2]).cells(tiny(split="0.5/0.2/0.3", seeds=[0]))
    assert len(cells) == 2 * 4
    assert {cell.config.dataset.split for cell in cells} == {"0.5/0.2/0.3"}  # type: ignore[attr-defined]

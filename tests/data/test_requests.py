"""Prediction of tables and folders: own ids of every kind give the rows of the run, and predictions carry them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from dgl_rbm import Distiller, Run
from dgl_rbm.cli import app
from dgl_rbm.data import parquet
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.requests import predictions_table, read_request
from dgl_rbm.errors import DataError, DataWarning, MissingDependencyError

COUNT = 30
IDS: dict[str, list[Any]] = {
    "positions": list(range(COUNT)),
    "from one": list(range(1, COUNT + 1)),
    "gapped": [7 * i + 2**54 for i in range(COUNT)],
    "text": [f"n{i}" for i in range(COUNT)],
    "padded": [f"{i:03d}" for i in range(COUNT)],
    "with spaces": [f"New York {i}" for i in range(COUNT)],
}
QUICK: dict[str, Any] = {
    "teacher": {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 2}},
    "student": "mlp",
    "encoder": "label_propagation",
    "training": {"epochs": 2},
    "device": "cpu",
}
OPTIONS: dict[str, Any] = {"kind": "csv", "features": "x*", "split": "3/3"}
LABELS = np.array(["ham", "spam", "eggs"])[np.arange(COUNT) % 3]
FEATURES = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32) + np.eye(4)[np.arange(COUNT) % 3]
SOURCE, TARGET = np.random.default_rng(1).integers(0, COUNT, (2, 150))


def write_folder(folder: Path, ids: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    nodes = pd.DataFrame(FEATURES, columns=[f"x{i}" for i in range(4)]).assign(node_id=ids, label=LABELS)
    nodes.to_csv(folder / "nodes.csv", index=False)
    own = np.array(ids, dtype=object)
    pd.DataFrame({"src_id": own[SOURCE], "dst_id": own[TARGET]}).to_csv(folder / "edges.csv", index=False)
    (folder / "meta.yaml").write_text("node_data: [{file_name: nodes.csv}]\nedge_data: [{file_name: edges.csv}]\n")
    return folder


@pytest.fixture(scope="module", params=IDS)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, list[Any]]:
    ids = IDS[request.param]
    folder = write_folder(tmp_path_factory.mktemp("data") / "mine", ids)
    distiller = Distiller(**QUICK, setting="inductive")
    run = distiller.fit({**OPTIONS, "path": str(folder), "symmetrize": True})
    saved = run.save(folder.parent / "run")
    return Run.load(saved), folder, ids


def logits(run: Run) -> np.ndarray:
    found: np.ndarray = torch.softmax(run.student_logits, dim=1).numpy()
    return found


def test_a_folder_gives_the_rows_of_the_run(fitted: tuple[Run, Path, list[Any]]) -> None:
    run, folder, ids = fitted
    request = read_request(folder, run.predictor, dataset=run.config.dataset)
    assert request.ids is not None
    assert request.ids.tolist() == ids
    found = run.student.predict_proba(request.inputs(run.predictor))
    np.testing.assert_allclose(found.numpy(), logits(run), rtol=1e-5, atol=1e-6)
    frame = predictions_table(found, run.predictor, request.ids)
    assert list(frame.columns) == ["node_id", "label", "p_eggs", "p_ham", "p_spam"]
    assert set(frame["label"]) <= set(LABELS)


@pytest.mark.parametrize("symmetrize", [False, True])
@pytest.mark.parametrize("form", ["folder", "file"])
def test_new_nodes_are_encoded_by_the_weights_of_edges(form: str, symmetrize: bool, tmp_path: Path) -> None:
    weight = np.random.default_rng(2).integers(0, 4, len(SOURCE)).astype(np.float32)
    if form == "folder":
        path = write_folder(tmp_path / "mine", IDS["positions"])
        edges = pd.read_csv(path / "edges.csv")
        edges.assign(weight=weight).to_csv(path / "edges.csv", index=False)
        options = OPTIONS
    else:
        path = tmp_path / "mine.bin"
        graph = dgl.graph((SOURCE, TARGET), num_nodes=COUNT)
        graph.ndata["feat"] = torch.from_numpy(FEATURES.astype(np.float32))
        graph.ndata["label"] = torch.arange(COUNT) % 3
        graph.edata["weight"] = torch.from_numpy(weight)
        dgl.save_graphs(str(path), [graph])
        options = {"kind": "file", "split": "3/3"}
    run = Distiller(**QUICK, setting="inductive").fit({**options, "path": str(path), "symmetrize": symmetrize})
    request = read_request(path, run.predictor, dataset=run.config.dataset)
    found = run.student.predict_proba(request.inputs(run.predictor)).numpy()
    np.testing.assert_allclose(found, logits(run), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_mixes_known_and_new_nodes(fitted: tuple[Run, Path, list[Any]], tmp_path: Path, ending: str) -> None:
    run, _, ids = fitted
    unseen = set(run.task.unseen_idx.tolist())
    near: list[list[int]] = [[] for _ in ids]
    for one, other in {*zip(SOURCE.tolist(), TARGET.tolist()), *zip(TARGET.tolist(), SOURCE.tolist())}:  # noqa: B905
        near[other].append(one)
    order = np.random.default_rng(2).permutation(COUNT).tolist()
    frame = pd.DataFrame(FEATURES[order], columns=list("abcd"))
    frame["node_id"] = pd.Series([ids[i] for i in order], dtype=object if isinstance(ids[0], str) else None)
    lists = [[ids[j] for j in near[i]] if i in unseen else [] for i in order]
    frame["neighbors"] = lists if ending == "parquet" else [json.dumps(part) for part in lists]
    path = tmp_path / f"rows.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    request = read_request(path, run.predictor)
    assert request.ids is not None
    assert request.ids.tolist() == [ids[i] for i in order]
    found = run.student.predict_proba(request.inputs(run.predictor)).numpy()
    np.testing.assert_allclose(found, logits(run)[order], rtol=1e-5, atol=1e-6)


def test_the_command_carries_ids_and_class_names(fitted: tuple[Run, Path, list[Any]], tmp_path: Path) -> None:
    run, folder, ids = fitted
    for name in ("out.csv", "out.parquet"):
        done = CliRunner().invoke(app, ["predict", str(run.folder), str(folder), "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / "out.csv", dtype={"node_id": str})
    assert written["node_id"].tolist() == [str(own) for own in ids]
    assert pd.read_parquet(tmp_path / "out.parquet")["node_id"].tolist() == ids
    np.testing.assert_allclose(written.iloc[:, 2:].to_numpy(), logits(run), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = write_folder(tmp_path_factory.mktemp("one") / "mine", IDS["from one"])
    return Distiller(**QUICK).fit({**OPTIONS, "path": str(folder)})


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("1.9", ["column 'node_id', row 0 (line 2): '1.9' is not a whole number"]),
        ("nan", ["column 'node_id', row 0 (line 2): 'nan' is not an id"]),
        ("x", ["column 'node_id', row 0 (line 2): 'x' is not a whole number"]),
        ("31", ["'31' is not the id of a node of the training graph"]),
        ("1.9,2", ["column 'node_id', row 0 (line 2): '1.9' is not a whole number"]),
        ("new,1 1.5", ["column 'neighbors', row 0 (line 2): '1 1.5' is not a list of node ids"]),
        ("new,a", ["column 'neighbors', row 0 (line 2): 'a' is not a list"]),
        ('new,"{""a"": 1}"', ["is not a list of node ids"]),
    ],
)
def test_wrong_ids_are_named(run: Run, tmp_path: Path, content: str, parts: list[str]) -> None:
    header = "a,b,c,d,node_id" + (",neighbors" if "," in content else "")
    (tmp_path / "rows.csv").write_text(f"{header}\n1,2,3,4,{content}\n")
    with pytest.raises(DataError) as caught:
        read_request(tmp_path / "rows.csv", run.predictor)
    for part in (str(tmp_path / "rows.csv"), *parts):
        assert part in str(caught.value)


def test_rows_without_a_known_id_use_their_neighbours(run: Run, tmp_path: Path) -> None:
    cells = ["3,", "new,1 2", ",1;2", '99,"[1, 2]"', "3.0,1"]
    (tmp_path / "rows.csv").write_text("a,b,c,d,node_id,neighbors\n" + "".join(f"1,2,3,4,{cell}\n" for cell in cells))
    request = read_request(tmp_path / "rows.csv", run.predictor)
    assert request.ids is not None
    assert request.ids.tolist() == [3, "new", None, 99, 3]
    found = request.inputs(run.predictor).to_dense()
    assert found[0].equal(found[4])
    assert found[1].equal(found[2])
    assert found[1].equal(found[3])
    expected = run.predictor.inputs([[1.0, 2, 3, 4]] * 2, node_ids=[3, None], neighbors=[[], [1, 2]]).to_dense()
    assert found[:2].equal(expected)
    (tmp_path / "rows.csv").write_text("a,b,c,d,neighbors\n1,2,3,4,1 777\n")
    with pytest.warns(DataWarning, match="1 of 2 neighbours are not in the training graph, such as 777"):
        read_request(tmp_path / "rows.csv", run.predictor).inputs(run.predictor)


def test_parquet_without_a_usable_pyarrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unusable(*_: Any, **__: Any) -> None:
        raise ImportError("Unable to find a usable engine")

    def broken(name: str) -> None:
        raise AttributeError("_ARRAY_API not found")

    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(pd, "read_parquet", unusable)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", unusable)
    monkeypatch.setattr(parquet.importlib, "import_module", broken)
    for call in (
        lambda: parquet.read_parquet(tmp_path / "rows.parquet"),
        lambda: parquet.write_parquet(pd.DataFrame({"a": [1]}), tmp_path / "out.parquet"),
    ):
        with pytest.raises(MissingDependencyError, match="cannot be used: AttributeError: _ARRAY_API not found"):
            call()


def test_a_damaged_parquet_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and more")
    with pytest.raises(DataError, match=r"rows\.parquet' is not a Parquet file"):
        read_request(tmp_path / "rows.parquet", run.predictor)


def test_a_run_on_one_of_several_graphs_reads_the_only_graph_of_another_file(tmp_path: Path) -> None:
    graph, small = dgl.graph((SOURCE, TARGET), num_nodes=COUNT), dgl.graph(([0], [1]))
    graph.ndata["feat"] = torch.from_numpy(FEATURES.astype(np.float32))
    graph.ndata["label"] = torch.arange(COUNT) % 3
    for name, graphs in {"three": [small, small, graph], "alone": [graph], "two": [small, graph]}.items():
        dgl.save_graphs(str(tmp_path / f"{name}.bin"), graphs)
    options = {"kind": "file", "path": str(tmp_path / "three.bin"), "graph_index": 2, "split": "3/3"}
    run = Distiller(**QUICK).fit(options)
    for name in ("three", "alone"):
        request = read_request(tmp_path / f"{name}.bin", run.predictor, dataset=run.config.dataset)
        np.testing.assert_array_equal(np.asarray(request.features), FEATURES.astype(np.float32))
    with pytest.raises(DataError, match="contains 2 graphs; there is none of index 2") as caught:
        read_request(tmp_path / "two.bin", run.predictor, dataset=run.config.dataset)
    # `predict` has no option `--set`.
    assert caught.value.hint == "Save the graph to predict in a file of its own: `dgl.save_graphs(path, [graph])`."

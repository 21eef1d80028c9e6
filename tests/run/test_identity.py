"""A run keeps the ids of its nodes, the names of its classes and its split, and knows its graph again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm import NodeTask, Run, make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ArtifactError, DataError
from dgl_rbm.evaluation.scores import student_logits

from .conftest import NODES, community_arrays, quick_distiller

NAMES = ("ant", "bee", "cow")
OWN_IDS: dict[str, Any] = {
    "from one": np.arange(1, NODES + 1),
    "gapped": np.arange(NODES)[::-1] * 7 + 1000,
    "text": np.array([f"node-{i:03d}" for i in range(NODES)], dtype=object),
}


def own_task(ids: Any, setting: str = "transductive", labels: Any = None, **changes: Any) -> NodeTask:
    parts = community_arrays() | changes
    names = np.array(NAMES, dtype=object)[parts["labels"]]
    return make_task(
        dgl.graph(parts["edges"], num_nodes=NODES),
        features=parts["features"],
        labels=names if labels is None else labels,
        node_ids=ids,
        split="6/6",
        setting=setting,  # type: ignore[arg-type]
        seed=4,
    )


@pytest.mark.parametrize("kind", OWN_IDS)
@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_predictions_are_found_by_own_ids(kind: str, setting: str, tmp_path: Path) -> None:
    task = own_task(OWN_IDS[kind], setting)
    run = quick_distiller(encoder="diffusion").fit(task)
    expected = torch.softmax(student_logits(run.student, run.encodings, task), 1)
    observed = task.observed().node_ids[::-3].clone() if setting == "x" else task.observed().node_ids.flip(0)[::3]
    ids = OWN_IDS[kind][observed.numpy()]
    raw = community_arrays()["features"]
    loaded = Run.load(run.save(tmp_path / "run"), task=task)
    for predictor in (run.predictor, loaded.predictor):
        torch.testing.assert_close(predictor.predict_proba(raw[observed], node_ids=ids), expected[observed])
        predicted = predictor.predict(raw[observed], node_ids=ids)
        assert list(predicted) == [NAMES[number] for number in expected[observed].argmax(1)]
        with pytest.raises(DataError, match=r"no node|ids of this graph are text"):
            predictor.predict(raw[:1], node_ids=[-5])
    source, destination = task.graph.edges()
    for node in task.unseen_idx[:5].tolist():
        near = OWN_IDS[kind][source[destination == node].numpy()]
        found = run.predictor.predict_proba(raw[node : node + 1], neighbors=[near])
        torch.testing.assert_close(found[0], expected[node])
    torch.testing.assert_close(torch.as_tensor(loaded.inputs(ids)), torch.as_tensor(run.inputs(ids)), rtol=0, atol=0)


def test_integer_labels_are_predicted_as_they_are(tmp_path: Path) -> None:
    labels = community_arrays()["labels"] * 10 + 10
    with pytest.warns(UserWarning, match="the labels 10, 20, 30 are the classes 0 to 2"):
        task = own_task(None, labels=labels)
    run = quick_distiller().fit(task)
    predicted = Run.load(run.save(tmp_path / "run")).predictor.predict(community_arrays()["features"])
    assert predicted.dtype == torch.int64
    assert float((predicted == labels).float().mean()) > 0.6


def test_the_split_is_that_of_the_run(tmp_path: Path) -> None:
    run = quick_distiller().fit(own_task(None, "inductive"))
    folder = run.save(tmp_path / "run")
    other = own_task(None, "inductive")
    task = make_task(
        other.graph, features=community_arrays()["features"], labels=other._labels, split="8/8", seed=9, classes=NAMES
    )
    loaded = Run.load(folder, task=task)
    assert loaded.evaluate() == run.evaluate()
    assert torch.equal(loaded.task.unseen_idx, run.task.unseen_idx)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": community_arrays()["features"] + 0.5}, "other features"),
        ({"labels": (community_arrays()["labels"] + 1) % 3}, "other labels"),
        ({"edges": tuple(part[:-2] for part in community_arrays()["edges"])}, r"\d+ edges instead of \d+"),
        ({"ids": np.arange(NODES) + 1}, "other node ids"),
    ],
    ids=["features", "labels", "edges", "ids"],
)
def test_another_graph_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = quick_distiller().fit(own_task(None)).save(tmp_path / "run")
    with pytest.raises(ArtifactError, match=f"has changed since the run: it has {words}"):
        Run.load(folder, task=own_task(**{"ids": None, **change}))


def saved_graph(path: Path, labels: torch.Tensor) -> None:
    parts = community_arrays()
    graph = dgl.graph(parts["edges"], num_nodes=NODES)
    graph.ndata["feat"], graph.ndata["label"] = parts["features"], labels
    dgl.save_graphs(str(path), [graph])


def test_labels_that_were_filled_in_do_not_move_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = community_arrays()["labels"]
    missing = labels.clone()
    missing[::9] = -1
    monkeypatch.chdir(tmp_path)
    saved_graph(Path("graph.bin"), missing)
    run = quick_distiller().fit({"kind": "file", "path": "graph.bin", "split": "6/6"})
    run.save("run")
    # A relative path is found from another folder.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert Run.load("../run").evaluate() == run.evaluate()
    saved_graph(tmp_path / "graph.bin", labels)
    with pytest.raises(ArtifactError, match="other labels"):
        Run.load("../run").evaluate()
    os.remove(tmp_path / "graph.bin")
    with pytest.raises(DataError, match="There is no graph file"):
        Run.load("../run").evaluate()


def test_a_distiller_reads_ids_from_a_node_field(tmp_path: Path) -> None:
    parts = community_arrays()
    graph = dgl.graph(parts["edges"], num_nodes=NODES)
    graph.ndata["feat"], graph.ndata["label"] = parts["features"], parts["labels"]
    graph.ndata["nid"] = torch.arange(NODES) + 500
    dgl.save_graphs(str(tmp_path / "graph.bin"), [graph])
    dataset = {"kind": "file", "path": str(tmp_path / "graph.bin"), "split": "6/6", "node_ids": "nid"}
    run = quick_distiller().fit(dataset)
    assert run.task.ids.at([0, 3]).tolist() == [500, 503]

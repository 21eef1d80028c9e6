"""Tasks from data frames and pairs of files, compared with references that loop over dictionaries."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dgl_rbm
from dgl_rbm.data.structure import compressed
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ConfigError, DataError, DataWarning

NODES = pd.DataFrame(
    {
        "person": ["eve", "bob", "al", "kim", "joe", "zoe", "ann"],
        "age": [31, 42, 23, 54, 65, 76, 87],
        "x_1": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5],
        "x_2": [True, False, True, False, True, False, True],
        "kind": ["cat", "dog", "cat", "dog", None, "cat", "dog"],
    }
)
EDGES = pd.DataFrame({"from": ["eve", "bob", "bob"], "to": ["bob", "al", "eve"], "since": ["1999", "?", ""]})
OPTIONS: dict[str, Any] = {"node_id": "person", "label": "kind", "split": "1/1", "rescale": False}


def make(nodes: Any = NODES, edges: Any = EDGES, **options: Any) -> NodeTask:
    with pytest.warns(DataWarning) if options.pop("warns", True) else nullcontext():
        return dgl_rbm.from_pandas(edges, nodes, **{**OPTIONS, **options})


def edges_of(task: NodeTask) -> list[tuple[Any, Any]]:
    pointers, sources = compressed(task.graph)
    targets = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    return sorted(zip(task.ids.at(sources).tolist(), task.ids.at(targets).tolist(), strict=True))


def test_a_task_remembers_ids_and_class_names_in_the_order_of_the_table() -> None:
    task = make(features=["age", "x_*"])
    assert task.ids.values.tolist() == NODES["person"].tolist()
    assert task.classes == ("cat", "dog")
    assert task._labels.tolist() == [0, 1, 0, 1, -1, 0, 1]
    assert edges_of(task) == [("bob", "al"), ("bob", "eve"), ("eve", "bob")]
    expected = [[31, 0.5, 1], [42, 1.5, 0], [23, 2.5, 1], [54, 3.5, 0], [65, 4.5, 1], [76, 5.5, 0], [87, 6.5, 1]]
    assert torch.as_tensor(task.features.to_dense()).tolist() == expected
    assert task.notes == ("edges: column 'since' is not used.",)


def test_defaults_of_names() -> None:
    plain = make(features=["age"])
    # The index, the columns `id` and `node_id`, and every usual pair of ends.
    assert edges_of(make(NODES.set_index("person"), features="age", node_id=None)) == edges_of(plain)
    for own in ("id", "node_id"):
        assert edges_of(make(NODES.rename(columns={"person": own}), features="age", node_id=None)) == edges_of(plain)
    for ends in (("src_id", "dst_id"), ("source", "target"), ("src", "dst")):
        renamed = EDGES.rename(columns=dict(zip(("from", "to"), ends, strict=True)))
        assert edges_of(make(edges=renamed, features="age")) == edges_of(plain)
    swapped = make(source="to", target="from", features="age")
    assert edges_of(swapped) == sorted((b, a) for a, b in edges_of(plain))
    # Without `features`, all other columns.
    assert make().features.shape == (7, 3)
    with pytest.raises(DataError, match=r"column 'kind', row 0: 'cat' is not a number; .*\n?.*features="):
        make(label="x_2", warns=False)


def test_masks_by_column_and_by_array() -> None:
    parts = {"train": [0, 1], "val": [2, 3], "test": [5]}
    masks = {part: np.isin(np.arange(7), rows) for part, rows in parts.items()}
    columns = NODES.assign(**{f"{part}_mask": mask for part, mask in masks.items()})
    own = {part: NODES["person"].to_numpy()[rows] for part, rows in parts.items()}
    for task in (
        make(columns, features="age", split=None),
        make(
            columns.rename(columns={"test_mask": "t"}),
            features="age",
            split=None,
            train="train_mask",
            val="val_mask",
            test="t",
        ),
        make(features="age", split=None, **masks),
        make(features="age", split=None, **own),
        make(
            columns.drop(columns="val_mask"),
            features="age",
            split=None,
            train="train_mask",
            val=own["val"],
            test="test_mask",
        ),
    ):
        assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == tuple(parts.values())
    with pytest.raises(DataError, match="no column 'tset' for the test mask"):
        make(columns, features="age", split=None, train="train_mask", val="val_mask", test="tset", warns=False)
    with pytest.raises(DataError, match="pass all three masks, or a split"):
        make(features="age", split=None, warns=False)


def test_files_give_the_task_of_the_frames(tmp_path: Path) -> None:
    expected = make(features=["age", "x_*"])
    NODES.to_csv(tmp_path / "people.csv", index=False)
    EDGES.to_csv(tmp_path / "links.tsv", index=False)
    NODES.to_parquet(tmp_path / "people.parquet")
    with gzip.open(tmp_path / "people.csv.gz", "wb") as file:
        file.write((tmp_path / "people.csv").read_bytes())
    for name in ("people.csv", "people.parquet", "people.csv.gz"):
        with pytest.warns(DataWarning):
            task = dgl_rbm.from_csv(
                tmp_path / "links.tsv",
                str(tmp_path / name),
                label="kind",
                features=["age", "x_*"],
                split="1/1",
                rescale=False,
            )
        assert task.digests() == expected.digests()
    assert task.name == "people.csv"
    with pytest.raises(DataError, match=r"none\.csv' cannot be read: there is no such file"):
        dgl_rbm.from_csv(tmp_path / "links.tsv", tmp_path / "none.csv")


def test_wrong_tables_and_options() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"edges": EDGES.replace("al", "alf")}, r"edges, column 'to', row 1: 'alf' is not the id of a node in nodes"),
        ({"edges": EDGES.assign(to=[1, 2, 3])}, "edges, column 'to', row 0: 1 is a number; the node ids are not"),
        ({"edges": EDGES.assign(to=["al", None, "al"])}, "edges, column 'to', row 1: .* is not an id"),
        ({"edges": EDGES.drop(columns="from")}, "edges has no column 'src_id' for the ends of edges"),
        ({"nodes": NODES.assign(person=["a", "b", "a", "c", "d", "e", "f"])}, "row 2: 'a' is the id of row 0 too"),
        ({"nodes": NODES.assign(age=[1, 2, None, 4, 5, 6, 7])}, "nodes, column 'age', row 2: nan is NaN"),
        ({"nodes": NODES.iloc[:0]}, "nodes has no rows"),
        ({"nodes": [[1, 2]]}, "nodes is a list; expected a table of named columns"),
        ({"edges": None}, "edges is a NoneType"),
        ({"label": "kin"}, "no column 'kin' for the labels. Did you mean 'kind'"),
        ({"features": "y_*"}, r"nothing matches the pattern 'y_\*'"),
        ({"features": []}, "the list of features is empty"),
    ]
    for options, message in wrong:
        with pytest.raises(DataError, match=message):
            make(**{"features": "age", **options, "warns": False})
    with pytest.raises(ConfigError, match=r"no option 'sed'\. Did you mean 'seed'"):
        make(sed=3, warns=False)
    with pytest.raises(ConfigError, match="setting"):
        make(setting="x", features="age", warns=False)
    with pytest.raises(DataError, match="a column and the index are named 'age'"):
        make(NODES.set_index("age", drop=False), node_id=None, warns=False)


def test_a_distilled_task_predicts_in_ids_and_class_names() -> None:
    count = 24
    nodes = pd.DataFrame({"id": [f"p{i}" for i in range(count)], "kind": ["a", "b"] * (count // 2)})
    nodes["x"], nodes["y"] = np.arange(count) % 2 + 0.1, 1.0
    edges = pd.DataFrame({"source": nodes["id"], "target": np.roll(nodes["id"], 2), "weight": np.ones(count)})
    task = dgl_rbm.from_pandas(edges, nodes, label="kind", split="3/3")
    assert task.notes == ()
    quick = {"kind": "sage", "hidden_dim": 4, "training": {"epochs": 2}}
    run = dgl_rbm.Distiller(teacher=quick, student="mlp", training={"epochs": 2}, device="cpu").fit(task)
    order = np.random.default_rng(0).permutation(count)
    found = run.predictor.predict_proba(nodes[["x", "y"]].iloc[order], node_ids=nodes["id"].iloc[order])
    assert torch.allclose(found, run.student_logits.softmax(1)[torch.from_numpy(order)], atol=1e-6)
    assert set(run.predictor.predict(nodes[["x", "y"]], node_ids=nodes["id"])) <= {"a", "b"}


@given(data=st.data())
def test_any_frames_give_the_graph_of_a_slow_reference(data: st.DataObject) -> None:
    kinds = [st.integers(-(2**63), 2**63 - 1), st.text(min_size=1, max_size=4).filter(str.strip)]
    ids = data.draw(st.lists(data.draw(st.sampled_from(kinds)), min_size=9, max_size=12, unique=True))
    count = len(ids)
    features = {own: data.draw(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2)) for own in ids}
    labels = {own: ("one", "two", None)[i % 3] for i, own in enumerate(ids)}
    edges = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=20))
    order = data.draw(st.permutations(ids))
    dtype = object if isinstance(ids[0], str) else np.int64
    nodes = pd.DataFrame(
        {
            "b": np.array([features[own][1] for own in order], dtype=np.float32),
            "id": pd.Series(order, dtype=dtype),
            "label": [labels[own] for own in order],
            "a": np.array([features[own][0] for own in order], dtype=np.float64),
        },
    ).set_index(np.arange(count) * 3)
    ends = {name: pd.Series([edge[i] for edge in edges], dtype=dtype) for i, name in enumerate(("src", "dst"))}
    with pytest.warns(DataWarning) if not edges else nullcontext():
        task = dgl_rbm.from_pandas(pd.DataFrame(ends), nodes, features=["a", "b"], split="1/1", rescale=False)
    own = task.ids.values.tolist()
    assert own == list(order)
    assert dict(zip(own, torch.as_tensor(task.features.to_dense()).tolist(), strict=True)) == features
    names = [None if number < 0 else task.classes[number] for number in task._labels.tolist()]
    assert dict(zip(own, names, strict=True)) == labels
    assert edges_of(task) == sorted(edges)

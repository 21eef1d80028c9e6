"""Folders in DGL's CSV format: own ids, class names, features by column, and errors that name the cell."""

from __future__ import annotations

import csv
import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data import load_task
from dgl_rbm.data.cells import read_mask
from dgl_rbm.data.csv import CsvConfig
from dgl_rbm.data.tables import Table
from dgl_rbm.errors import DataError, DglRbmError

META = "dataset_name: mine\nedge_data:\n- file_name: edges.csv\nnode_data:\n- file_name: nodes.csv\n"
NODES = 'node_id,feat,label\n1,"0.5, 1",a\n2,"1.5, 2",b\n4,"2.5, 3",a\n9,"3.5, 4",b\n'
EDGES = "src_id,dst_id\n1,2\n9,4\n"


def write(folder: Path, nodes: str | bytes = NODES, edges: str | bytes = EDGES, meta: str = META) -> dict[str, Any]:
    for name, content in (("nodes.csv", nodes), ("edges.csv", edges), ("meta.yaml", meta)):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"kind": "csv", "path": str(folder), "split": "1/0.5"}


def load(folder: Path, *contents: Any, **options: Any) -> Any:
    spec = write(folder, *contents)
    spec["split"] = None
    return CsvConfig(**{**spec, **options, "split": "0.5/0.25/0.25"}).load(0)


def edges_of(graph: Any) -> list[tuple[Any, Any]]:
    ends = [graph.node_ids[end.numpy()].tolist() for end in graph.graph.edges()]
    return list(zip(*ends, strict=True))


def test_own_ids_labels_features_and_edges_are_kept(tmp_path: Path) -> None:
    graph = load(tmp_path)
    assert graph.node_ids.tolist() == [1, 2, 4, 9]
    assert graph.labels.tolist() == ["a", "b", "a", "b"]
    assert graph.features.tolist() == [[0.5, 1], [1.5, 2], [2.5, 3], [3.5, 4]]
    assert edges_of(graph) == [(1, 2), (9, 4)]
    assert graph.edge_weight is None
    assert not graph.notes


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "2", "3"], [1, 2, 3]),
        (["9", "-4", "0"], [-4, 0, 9]),
        (["1.0", "2.0", "7.0"], [1, 2, 7]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["9007199254740993", "9007199254740992", "1"], [1, 2**53, 2**53 + 1]),
        (["99999999999999999999", "1", "2"], ["99999999999999999999", "1", "2"]),
        (["b", "a", "1"], ["b", "a", "1"]),
        (["1e5", "x", "1.5"], ["1e5", "x", "1.5"]),
        (["Zürich", "New York", " a "], ["Zürich", "New York", "a"]),
    ],
)
def test_ids_are_exact(tmp_path: Path, ids: list[str], expected: list[Any]) -> None:
    rows = "".join(f'{own},"{i}, 1",{i % 2}\n' for i, own in enumerate(ids))
    graph = load(tmp_path, f"node_id,feat,label\n{rows}", f"src_id,dst_id\n{ids[0]},{ids[2]}\n")
    assert graph.node_ids.tolist() == expected
    first, last = (expected[0], expected[2]) if isinstance(expected[0], str) else (_int(ids[0]), _int(ids[2]))
    assert edges_of(graph) == [(first, last)]
    # Features stay with their node.
    position = expected.index(first)
    assert graph.features[position].tolist() == [0, 1]


def _int(text: str) -> int:
    return int(text.removesuffix(".0"))


def test_columns_that_nobody_uses_are_named_and_do_no_harm(tmp_path: Path) -> None:
    nodes = (
        b"node_id,name,url,feat,label,joined\n"
        b'1,"O\'Neill, A.",https://x.org/?a=1,"1 2",0,2020-01-02\n'
        b"2,,,3 4,1,\n3,['x',,\"5 6\",1,nan\n"
    ) + b"4,Z\xfcrich,,7 8,0,\n"
    graph = load(tmp_path, nodes, "src_id,dst_id,kind\n1,2,cites\n3,1,(\n")
    assert graph.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert graph.notes == (
        f"'{tmp_path / 'nodes.csv'}': columns 'name', 'url', 'joined' are not used.",
        f"'{tmp_path / 'edges.csv'}': column 'kind' is not used.",
    )


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (["days", "views"], [[1, 2], [5, 6], [9, 10]]),
        (["views", "days"], [[2, 1], [6, 5], [10, 9]]),
        ("x_*", [[3, 4], [7, 8], [11, 12]]),
        (["x_b", "x_*"], [[4, 3], [8, 7], [12, 11]]),
        ("[dv]*", [[1, 2], [5, 6], [9, 10]]),
        ("*", [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
    ],
)
def test_features_from_several_columns(tmp_path: Path, features: Any, expected: list[list[float]]) -> None:
    nodes = "node_id,days,views,label,x_a,x_b\n1,1,2,0,3,4\n2,5,6,1,7,8\n3,9,10,1,11,12\n"
    graph = load(tmp_path, nodes, "src_id,dst_id\n1,2\n", features=features)
    assert graph.features.tolist() == expected


def test_packed_cells_of_every_form_and_mixed_with_plain_columns(tmp_path: Path) -> None:
    for cell in ("0.1, 0.2", "0.1 0.2", "[0.1, 0.2]", "(0.1,0.2)", "0.1;0.2", " 0.1,\t0.2 "):
        nodes = f'node_id,feat,label,age\n1,"{cell}",0,7\n2,"{cell}",1,8\n'
        graph = load(tmp_path, nodes, "src_id,dst_id\n1,2\n", features=["feat", "age"])
        np.testing.assert_array_equal(graph.features, np.float32([[0.1, 0.2, 7], [0.1, 0.2, 8]]))


def test_labels(tmp_path: Path) -> None:
    def labels(*cells: str) -> list[Any]:
        rows = "".join(f"{i},{i},{cell}\n" for i, cell in enumerate(cells))
        found: list[Any] = load(tmp_path, f"node_id,feat,label\n{rows}", "src_id,dst_id\n0,1\n").labels.tolist()
        return found

    assert labels("1", "0", "") == [1, 0, -1]
    assert labels("1.0", "NaN", "3.0") == [1, -1, 3]
    assert labels("2", "-1", "null") == [2, -1, -1]
    assert labels("spam", "", "NA") == ["spam", "", "NA"]
    assert labels("True", "False", "True") == ["True", "False", "True"]
    assert labels("01", "02", "01") == ["01", "02", "01"]
    nodes = NODES.replace(",b", ",ant") + "11,5 5,a\n12,6 6,ant\n"
    assert load_task({**write(tmp_path, nodes), "split": "1/1"}).classes == ("a", "ant")


def test_masks(tmp_path: Path) -> None:
    cells = ["true", "False", "1", "0", "1.0", "T", "no"]
    rows = "".join(f"{i},{i},{i % 2},{cell}\n" for i, cell in enumerate(cells))
    write(tmp_path, f"node_id,feat,label,mask\n{rows}", "src_id,dst_id\n0,1\n")
    found = read_mask(Table.from_file(tmp_path / "nodes.csv"), "mask", "the training mask")
    assert found.tolist() == [True, False, True, False, True, True, False]
    with pytest.raises(DataError, match=r"column 'feat', row 2 \(line 4\): '2' is no truth value; expected true"):
        read_mask(Table.from_file(tmp_path / "nodes.csv"), "feat", "the training mask")
    graph_rows = "".join(
        f"{i},{i},{i % 2},{cell},{i in (1, 3)},{int(i in (0, 5))}\n" for i, cell in enumerate("0011100")
    ).replace(",1,True", ",0,True")
    write(tmp_path, f"node_id,feat,label,train_mask,val_mask,test_mask\n{graph_rows}", "src_id,dst_id\n0,1\n")
    graph = CsvConfig(path=str(tmp_path)).load(0)
    assert np.flatnonzero(graph.val_idx).tolist() == [1, 3]
    assert np.flatnonzero(graph.test_idx).tolist() == [0, 5]


def test_several_splits_in_one_column(tmp_path: Path) -> None:
    rows = "".join(
        f'{i},{i},{i % 2},"{int(i < 2)} {int(i > 3)}","{int(i in (2, 3))},0","{int(i > 3)},{int(i < 4)}"\n'
        for i in range(6)
    )
    write(tmp_path, f"node_id,feat,label,train_mask,val_mask,test_mask\n{rows}", "src_id,dst_id\n0,1\n")
    task = load_task({"kind": "csv", "path": str(tmp_path), "split_index": 0})
    assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [2, 3], [4, 5])


def test_weights(tmp_path: Path) -> None:
    weighted = "src_id,dst_id,weight,other\n1,2,0.5,7\n9,4,2,8\n"
    assert load(tmp_path, NODES, weighted).edge_weight.tolist() == [0.5, 2]
    assert load(tmp_path, NODES, weighted, edge_weight="other").edge_weight.tolist() == [7, 8]
    ignored = load(tmp_path, NODES, weighted, edge_weight="")
    assert ignored.edge_weight is None
    assert "'weight', 'other' are not used" in ignored.notes[0]
    with pytest.raises(DataError, match=r"column 'weight', row 1 \(line 3\): 'x' is not a number.*edge_weight=''"):
        load(tmp_path, NODES, weighted.replace(",2,8", ",x,8"))
    with pytest.raises(DataError, match=r"no column 'wait' for the edge weights\. Did you mean 'weight'"):
        load(tmp_path, NODES, weighted, edge_weight="wait")


def test_forms_of_text_files(tmp_path: Path) -> None:
    expected = load(tmp_path)
    tabs = NODES.replace(",", "\t").replace("\t 1", ", 1").replace("\t 2", ", 2").replace("\t 3", ", 3")
    tabs = tabs.replace("\t 4", ", 4")
    forms = [
        (b"\xef\xbb\xbf" + NODES.encode(), EDGES, META),
        (b'\xef\xbb\xbf"node_id"' + NODES.encode()[7:], EDGES, META),
        (NODES.replace("\n", "\r\n"), EDGES.replace("\n", "\r\n"), META),
        (NODES.replace(",a", ", a") + "\n\n", EDGES.replace(",", ", "), META),
        (tabs, EDGES.replace(",", "\t"), META + 'separator: "\\t"\n'),
        (tabs, EDGES.replace(",", "\t"), META + "separator: '\\t'\n"),
        (NODES, EDGES, META.replace("- ", "  ").replace("dataset_name: mine\n", "") + "authors: us\n"),
    ]
    for nodes, edges, meta in forms:
        found = load(tmp_path, nodes, edges, meta)
        assert found.node_ids.tolist() == expected.node_ids.tolist()
        assert found.labels.tolist() == expected.labels.tolist()
        assert edges_of(found) == edges_of(expected)
        np.testing.assert_array_equal(found.features, expected.features)
    assert found.notes == ("'meta.yaml': 'authors' is not used.",)


def test_a_graph_without_edges(tmp_path: Path) -> None:
    graph = load(tmp_path, NODES, "src_id,dst_id\n")
    assert graph.graph.num_edges() == 0
    assert "has no rows: the graph has no edges" in graph.notes[0]


def test_one_of_several_graphs_by_its_id(tmp_path: Path) -> None:
    nodes = "graph_id,node_id,feat,label\ng,1,1,0\nh,1,2,1\ng,2,3,1\n"
    edges = "graph_id,src_id,dst_id\ng,1,2\nh,1,1\n"
    assert load(tmp_path, nodes, edges, graph_id="g").features.tolist() == [[1], [3]]
    assert edges_of(load(tmp_path, nodes, edges, graph_id="h")) == [(1, 1)]
    with pytest.raises(DataError, match=r"contain 2 graphs; choose one with `dataset.graph_id`: 'g', 'h'"):
        load(tmp_path, nodes, edges)
    with pytest.raises(DataError, match=r"row 1 \(line 4\): '2,5' is not a number|'x' is not a number"):
        load(tmp_path, nodes.replace("g,2,3", "g,2,x"), edges, graph_id="g")


FAULTS = {
    "dangling edge": (NODES, EDGES + "1,7\n", ["edges.csv", "'dst_id', row 2 (line 4): '7'", "not the id of a node"]),
    "empty id": (NODES, EDGES + ",7\n", ["'src_id', row 2 (line 4): ''", "not an id"]),
    "fraction in an edge": (NODES, EDGES + "1,1.9\n", ["'dst_id', row 2 (line 4): '1.9'", "not a whole number"]),
    "text in an edge": (NODES, EDGES + "1,x\n", ["'dst_id', row 2 (line 4): 'x'", "not a whole number"]),
    "NaN id": (NODES + "nan,1,a\n", EDGES, ["'node_id', row 4 (line 6): 'nan'", "not an id"]),
    "fraction as id": (NODES + "1.9,1,a\n", EDGES, ["'node_id', row 4 (line 6): '1.9'", "not a whole number"]),
    "repeated id": (NODES + '2,"1,1",a\n', EDGES, ["row 4 (line 6): '2' is the id of row 1 (line 3) too"]),
    "no nodes": ("node_id,feat,label\n", EDGES, ["nodes.csv", "has no rows"]),
    "empty file": ("", EDGES, ["nodes.csv", "is empty"]),
    "ragged features": (
        NODES + '7,"1, 2, 3",a\n',
        EDGES,
        ["'feat', row 4 (line 6): '1, 2, 3' has 3 numbers", "2 numb"],
    ),
    "empty features": (NODES + "7,,a\n", EDGES, ["'feat', row 4 (line 6): ''", "expected 2 numbers"]),
    "NaN features": (NODES + '7,"1, nan",a\n', EDGES, ["'feat', row 4 (line 6): '1, nan' is NaN"]),
    "text features": (NODES + '7,"1, x",a\n', EDGES, ["'feat', row 4 (line 6): '1, x' is not a number"]),
    "underscores": (NODES + '7,"1_0 2",a\n', EDGES, ["'1_0 2' is not a number"]),
    "too many cells": (NODES + "7,1,2,a\n", EDGES, ["nodes.csv", "line 6: 4 cells; the first line has 3"]),
    "too few cells": (NODES + "7,1\n", EDGES, ["nodes.csv", "line 6: 2 cells; the first line has 3"]),
    "open quote": (NODES + '7,"1,a\n', EDGES, ["nodes.csv"]),
    "other bytes": (NODES.encode() + b"7,1 2,\xe9\n", EDGES, ["'label', row 4 (line 6)", "not text in UTF-8"]),
    "UTF-16": (NODES.encode("utf-16"), EDGES, ["nodes.csv", "UTF-16"]),
    "missing column": (NODES.replace("label", "lable"), EDGES, ["no column 'label'", "Did you mean 'lable'"]),
    "missing features": (NODES.replace("feat", "feats"), EDGES, ["'feat' for the features. Did you mean 'feats'"]),
    "missing ends": (NODES, EDGES.replace("src_id", "source"), ["edges.csv", "no column 'src_id'", "'source'"]),
    "column twice": (NODES.replace("label", "feat"), EDGES, ["2 columns 'feat'"]),
    "line breaks in cells": (
        'node_id,feat,label\n1,1,"a\n\nb"\n2,x,c\n',
        EDGES,
        ["'feat', row 1 (line 5): 'x' is not a number"],
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_errors_name_file_column_row_and_value(tmp_path: Path, case: str) -> None:
    nodes, edges, parts = FAULTS[case]
    with pytest.raises(DataError) as caught:
        load(tmp_path, nodes, edges)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("meta", "part"),
    [
        ("", "node_data: Field required"),
        ("- a\n", "expected a mapping"),
        ("a: [", "not valid YAML"),
        (META.replace("node_data", "nod_data"), "nod_data: no such option. Did you mean 'node_data'"),
        (META + "  node_id_feild: id\n", "Did you mean 'node_id_field'"),
        (META + "separator: 7\n", "separator"),
        (META + "separator: '('\n", "nodes.csv"),
        (META + "separator: '(('\n", "nodes.csv"),
        (META + "version: 7.0\n", "version"),
        (META + "- file_name: more.csv\n  ntype: other\n", "2 node tables (_V, other)"),
        (META + "  ntype: user\n", "the edges go from '_V' to '_V'; the only node type is 'user'"),
        (META.replace("edges.csv", "edges.csv\n  etype: [a, b]"), "etype"),
        (META.replace("edges.csv", ""), "file_name"),
        (META.replace("edges.csv", "."), "no such file"),
        ("node_data: []\nedge_data: []\n", "0 node tables"),
    ],
)
def test_errors_in_the_description(tmp_path: Path, meta: str, part: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, NODES, EDGES, meta)
    assert part in str(caught.value)
    assert "docs.dgl.ai" in str(caught.value)


def test_the_command_line_gives_lists_of_features(tmp_path: Path) -> None:
    from dgl_rbm.specs import with_overrides

    values = with_overrides({"dataset": {"kind": "csv"}}, ["dataset.features=[days,views]"])
    assert values["dataset"]["features"] == ["days", "views"]


# Text as people have in tables, quotes and separators included; no line breaks of the universal kinds.
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6)


@given(data=st.data())
def test_any_table_is_read_as_a_slow_reference_reads_it(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("csv")
    texts = names.map(str.strip).filter(lambda text: text.lower() not in ("", "nan", "<na>"))
    integers = st.integers(-(2**63), 2**63 - 1).map(str)
    ids = data.draw(st.lists(data.draw(st.sampled_from([texts, integers])), min_size=2, max_size=8, unique=True))
    if not all(own.lstrip("-").isdigit() for own in ids):
        ids = [own if i else f"id {own}" for i, own in enumerate(ids)]
    width = data.draw(st.integers(1, 3))
    numbers = st.floats(-1e6, 1e6, width=32)
    rows = [data.draw(st.lists(numbers, min_size=width, max_size=width)) for _ in ids]
    labels = data.draw(st.lists(st.sampled_from(["red", "green", "5", ""]), min_size=len(ids), max_size=len(ids)))
    edges = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=10))
    separator = data.draw(st.sampled_from([",", ";", "\t"]))
    packed = data.draw(st.sampled_from([", ", " ", ";"]))
    write(
        folder,
        _csv(
            ["node_id", "feat", "note", "label"],
            separator,
            zip(ids, map(packed.join, _texts(rows)), ids, labels, strict=True),
        ),
        _csv(["src_id", "dst_id"], separator, edges),
        META + f"separator: {separator!r}\n".replace("'\\t'", '"\\t"'),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = CsvConfig(path=str(folder), split="1/1").load(0)
    own = [str(value) for value in graph.node_ids.tolist()]
    assert sorted(own) == sorted(ids)
    assert {value: graph.features[i].tolist() for i, value in enumerate(own)} == dict(zip(ids, rows, strict=True))
    missing = {-1: ""}
    assert {value: str(missing.get(graph.labels[i], graph.labels[i])) for i, value in enumerate(own)} == dict(
        zip(ids, labels, strict=True)
    )
    assert [(str(a), str(b)) for a, b in edges_of(graph)] == edges


def _texts(rows: list[list[float]]) -> list[list[str]]:
    return [[repr(number) for number in row] for row in rows]


def _csv(header: list[str], separator: str, rows: Any) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


@given(
    where=st.sampled_from(["nodes.csv", "edges.csv", "meta.yaml"]),
    position=st.integers(0, 200),
    removed=st.integers(0, 30),
    inserted=st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b",", b'"', b"\n", b"nan", b"1e999", b"\xff", b"\x00", b"null", b"[", b"{", b": ", b"-9"]),
    ),
)
def test_damaged_folders_end_in_errors_of_the_package(
    tmp_path_factory: Any, where: str, position: int, removed: int, inserted: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write(folder)
    content = (folder / where).read_bytes()
    at = position % (len(content) + 1)
    (folder / where).write_bytes(content[:at] + inserted + content[at + removed :])
    with suppress(DglRbmError):
        CsvConfig(path=str(folder), split="1/1").load(0)

"""Paths of other things than graphs: each is named as what it is, with a way in that does no harm."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import re
import shlex
import shutil
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.data import load_task
from dgl_rbm.data.recognition import recognize
from dgl_rbm.errors import DataError, DatasetNotFoundError
from dgl_rbm.specs import resolve_dataset

RUN = Path(__file__).parents[1] / "fixtures" / "run-of-0.1.0"
FRAME = pd.DataFrame({"src": [0, 1, 2], "dst": [1, 2, 0]})


class PygData:
    """Pickled under the name of another package's class."""


def pickled_pyg(path: Path) -> None:
    PygData.__module__, PygData.__qualname__ = "torch_geometric.data.data", "Data"
    protocol_2 = pickle.PROTO + b"\x02" + b"ctorch_geometric.data.data\nData\n" + b")\x81."
    path.write_bytes(protocol_2)


def saved_by_torch(path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            extra = b"ctorch_geometric.data.data\nData\n" if name.endswith("data.pkl") else b""
            archive.writestr(name, extra + content)


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)


GRAPH = nx.path_graph(3)
# File name, writer, what it is named as, and the way in.
FILES: dict[str, tuple[str, Any, str, str]] = {
    "empty": ("g.bin", lambda path: path.write_bytes(b""), "empty", "Download or write it again"),
    "csv": ("edges.csv", lambda path: FRAME.to_csv(path, index=False), r"a table \(CSV\)", "from_csv"),
    "csv as bin": ("g.bin", lambda path: FRAME.to_csv(path, index=False), r"a table \(CSV\)", "from_csv"),
    "quoted": ("a.csv", lambda path: path.write_text('id,feat\n1,"1,2"\n2,"3,4"\n'), r"a table \(CSV\)", "from_csv"),
    "tsv": ("e.tsv", lambda path: FRAME.to_csv(path, index=False, sep="\t"), r"a table \(TSV\)", r"separator='\\t'"),
    "edges": ("e.txt", lambda path: path.write_text("# SNAP\n0 1\n1 2\n"), "a list of edges", "from_arrays"),
    "parquet": ("t.parquet", FRAME.to_parquet, "a Parquet table", "from_csv"),
    "feather": ("t.feather", FRAME.to_feather, "Feather", "from_pandas"),
    "json": ("g.json", lambda path: path.write_text('{"a": 1}'), "a JSON file", "from_arrays"),
    "node link": (
        "g.json",
        lambda path: path.write_text(json.dumps(nx.node_link_data(GRAPH))),
        "a JSON file of nodes and links",
        "from_networkx",
    ),
    "graphml": ("g.graphml", lambda path: nx.write_graphml_xml(GRAPH, path), "a GraphML file", "read_graphml"),
    "gml": ("g.gml", lambda path: nx.write_gml(GRAPH, path), "a GML file", "read_gml"),
    "gexf": ("g.gexf", lambda path: nx.write_gexf(GRAPH, path), "a GEXF file", "read_gexf"),
    "dot": ("g.dot", lambda path: path.write_text("digraph G {\n 0 -> 1;\n}\n"), "Graphviz", "from_networkx"),
    "pajek": ("g.net", lambda path: nx.write_pajek(GRAPH, path), "a Pajek file", "read_pajek"),
    "matrix market": ("g.mtx", lambda path: scipy.io.mmwrite(path, sp.eye_array(2)), "a Matrix Market", "from_scipy"),
    "mat": ("g.mat", lambda path: scipy.io.savemat(path, {"A": np.eye(2)}), "a MATLAB file", r"scipy\.io\.loadmat"),
    "hdf5": ("g.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file", "h5py"),
    "npy": ("x.npy", lambda path: np.save(path, np.eye(2)), "a single NumPy array", "from_arrays"),
    "npz as bin": ("g.bin", lambda path: np.savez(path.open("wb"), a=[1]), "a NumPy archive of the arrays a", r"\.npz"),
    "networkx": ("g.gpickle", lambda path: path.write_bytes(pickle.dumps(GRAPH)), "networkx graph", "from_networkx"),
    "pickle": ("g.pkl", lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle file", "can run any code"),
    "old pickle": ("g.pkl", lambda path: path.write_bytes(pickle.dumps(GRAPH, 0)), "networkx graph", "from_networkx"),
    "frame": ("g.pkl", lambda path: path.write_bytes(pickle.dumps(FRAME)), "a pandas table", "from_pandas"),
    "pyg": ("g.pkl", pickled_pyg, "a PyG object", "from_pyg"),
    "torch": ("g.pt", lambda path: torch.save({"a": torch.ones(2)}, path), r"a file of `torch\.save`", "can run any"),
    "pyg data": ("data.pt", saved_by_torch, r"a file of `torch\.save` with a PyG object", "from_pyg"),
    "gzip": ("g.bin.gz", lambda path: path.write_bytes(gzip.compress(b"x")), "compressed with gzip", "--keep"),
    "bzip2": ("g.bz2", lambda path: path.write_bytes(bz2.compress(b"x")), "compressed with bzip2", "--keep"),
    "xz": ("g.xz", lambda path: path.write_bytes(lzma.compress(b"x")), "compressed with xz", "--keep"),
    "excel": ("t.xlsx", lambda path: zipped(path, xl__workbook_xml=b"<x/>"), "an Excel workbook", "read_excel"),
    "zip": ("t.zip", lambda path: zipped(path, readme=b"hello"), "a zip archive", "Unpack it"),
    "cut zip": ("t.bin", lambda path: path.write_bytes(b"PK\x03\x04abc"), "a damaged zip archive", "again"),
    "html": ("g.bin", lambda path: path.write_text("<!DOCTYPE html><html>404"), "a web page", "Download|download"),
    "lfs": ("g.bin", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "LFS", "git lfs"),
    "config": ("run.yaml", lambda path: path.write_text("dataset: digits\nseed: 1\n"), "a configuration", "--config"),
    "bytes": ("g.bin", lambda path: path.write_bytes(bytes(range(256))), "of an unknown format", "save_graphs"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_are_named_as_what_they_are(case: str, tmp_path: Path) -> None:
    name, write, what, way_in = FILES[case]
    path = tmp_path / "my files" / name
    path.parent.mkdir()
    write(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=what) as caught:
        load_task(resolve_dataset(str(path)))
    assert f"'{path}'" in caught.value.message
    assert caught.value.hint
    assert re.search(way_in, caught.value.hint)
    assert "{" not in str(caught.value)
    assert path.read_bytes() == before


def test_no_hint_writes_to_the_path_of_the_user(tmp_path: Path) -> None:
    for name, write, *_ in FILES.values():
        path = tmp_path / name
        write(path)
        _, hint = recognize(path)
        for call in re.findall(r"[\w.]+\([^)]*\)", hint):
            assert "save" not in call or str(path) not in call, hint


def test_paths_in_commands_are_quoted_for_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "a b; rm -rf $HOME'.gz"
    path.write_bytes(gzip.compress(b"x"))
    command = re.findall("`(.*)`", recognize(path)[1])[0]
    assert shlex.split(command) == ["gzip", "--decompress", "--keep", str(path)]


def folder_of_tables(path: Path) -> None:
    FRAME.to_csv(path / "edges.csv")
    FRAME.to_csv(path / "nodes.csv")


FOLDERS: dict[str, tuple[Any, str, str]] = {
    "empty": (lambda path: None, "an empty folder", "Give the path"),
    "run": (lambda path: shutil.copytree(RUN, path, dirs_exist_ok=True), "the folder of a run", "dgl-rbm predict"),
    "tables": (folder_of_tables, r"a folder of the tables edges\.csv, nodes\.csv", "from_csv"),
    "graphs": (lambda path: (path / "g.bin").touch(), r"a folder of the graphs g\.bin", r"--dataset '.*/g\.bin'"),
    "planetoid": (lambda path: (path / "ind.cora.x").touch(), "a folder of Planetoid files", "DGL_RBM_DATA"),
    "ogb": (lambda path: (path / "RELEASE_v1.txt").touch(), "Open Graph Benchmark", "ogbn-arxiv"),
    "notes": (lambda path: (path / "notes.md").touch(), r"a folder of notes\.md", "Give the path"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_are_named_as_what_they_are(case: str, tmp_path: Path) -> None:
    write, what, way_in = FOLDERS[case]
    folder = tmp_path / "my folder"
    folder.mkdir()
    write(folder)
    with pytest.raises(DatasetNotFoundError, match=what) as caught:
        load_task(resolve_dataset(str(folder)))
    assert caught.value.hint
    assert re.search(way_in, caught.value.hint)


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "edges.bin").touch()
    with pytest.raises(DatasetNotFoundError, match="There is no graph file") as caught:
        load_task(resolve_dataset(str(tmp_path / "edgse.bin")))
    assert caught.value.hint == f"Did you mean '{tmp_path / 'edges.bin'}'?"
    with pytest.raises(DatasetNotFoundError) as caught:
        load_task(resolve_dataset(str(tmp_path / "nowhere" / "graph.npz")))
    assert caught.value.hint == f"There is no folder '{tmp_path / 'nowhere'}' either."


def test_the_command_line_answers_a_table_without_a_harmful_command(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    FRAME.to_csv(path, index=False)
    result = CliRunner().invoke(app, ["distill", "--dataset", str(path), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "from_csv" in result.output
    assert "save_graphs('" not in result.output
    assert ".cc:" not in result.output


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_any_content_ends_in_an_error_of_the_package(content: bytes, tmp_path: Path) -> None:
    for name in ("g.bin", "g.npz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_task(resolve_dataset(str(tmp_path / name)))
        assert caught.value.hint

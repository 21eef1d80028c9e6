"""Doors of the package, each with generated bad inputs, a call, and a check of what an accepted input must satisfy."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from odd_values import odd_arguments

from dgl_rbm import Distiller, Run, dgl, from_arrays, from_pandas, make_task, task_from_graph
from dgl_rbm.data.load import load_task
from dgl_rbm.data.requests import read_request
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.registry import encoders, regularizers, students, teachers
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.run.config import DistillConfig, resolve_config
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.serving.predictor import Predictor
from dgl_rbm.specs import resolve_dataset, with_overrides
from dgl_rbm.yaml_files import parse_yaml

__all__ = ["Door", "doors"]

N = 12
ROWS = torch.arange(9.0).reshape(3, 3)
GRAPH = dgl.graph((np.arange(N), (np.arange(N) + 1) % N), num_nodes=N)
PARTS = {f"{part}_mask": torch.arange(N) // 4 == place for place, part in enumerate(("train", "val", "test"))}
for _name, _values in (PARTS | {"feat": torch.eye(N), "label": torch.arange(N) % 2}).items():
    GRAPH.ndata[_name] = _values

META = "dataset_name: mine\nedge_data:\n- file_name: edges.csv\nnode_data:\n- file_name: nodes.csv\n"
NODES = "node_id,feat,label,name\n" + "".join(f'{3 * i + 1},"{i}.5, {i % 3}",{"ab"[i % 2]},n{i}\n' for i in range(N))
EDGES = "src_id,dst_id,weight\n" + "".join(f"{3 * i + 1},{3 * ((i + 1) % N) + 1},{i + 1}\n" for i in range(N))
TABLE = "node_id,f0,f1,f2\n" + "".join(f"{i},{i}.5,{i % 3},0\n" for i in range(5))

MORE_CELLS = (
    '"',
    "1;2",
    "0x1",
    "1_000",
    "١",
    "2024-01-01",
    "http://a/b",
    "None",
    "=1+1",
    "-0",
    "1e3",
    "NULL",
    "[1, [2]]",
)
CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "nan",
            "inf",
            "-1",
            "1.9",
            "1.0",
            "true",
            "1e400",
            "9" * 25,
            "1,2",
            "1 2",
            "[1]",
            "a",
            "é",
            "\0",
            *MORE_CELLS,
        ]
    ),
    st.text(max_size=6),
)


@dataclass(frozen=True)
class Door:
    """A door, inputs for it, and what an accepted input must satisfy.

    Attributes
    ----------
    name : str
        What the inputs are given to.
    inputs : SearchStrategy
        Generated inputs.
    call : callable
        Passes an input through the door; an `AssertionError` names a result that is silently wrong.
    apart : bool
        Whether each call needs a process of its own, since a library in C++ may end it.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    call: Callable[[Any], Any]
    apart: bool = False


def predictor() -> Predictor:
    """Return a predictor of eight nodes, of which node 5 was hidden from training."""
    observed = torch.tensor([0, 1, 2, 3, 4, 6, 7])
    vectors = torch.arange(14.0).reshape(7, 2)
    encodings = Encodings(observed, vectors, vectors + 1, torch.zeros(2), torch.ones(2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = students.resolve({"kind": "mlp", "hidden_dim": 4}).build(5, 4).eval()
    return Predictor(student, encodings, FeatureNormalization(), NodeIds.of(None, 8), ())


PREDICTOR = predictor()


def predict(argument: tuple[str, Any]) -> None:
    name, value = argument
    method = getattr(PREDICTOR, ("inputs", "predict", "predict_proba")[len(name) % 3])
    given = {"features": ROWS} if name != "mixed" else {"features": ROWS, "neighbors": [[1], [], [2]]}
    result = method(**(given | {"node_ids" if name == "mixed" else name: value}))
    if name == "node_ids" and value is not None:
        ids = [each.item() if hasattr(each, "item") else each for each in value]
        assert not any(isinstance(each, (bool, np.bool_)) for each in ids), "booleans were read as ids"
        places = [PREDICTOR.encodings.node_ids.tolist().index(int(each)) for each in ids]
        assert all(int(each) == each for each in ids), "an id was cut"
        expected = PREDICTOR.inputs(ROWS, encodings=PREDICTOR.encodings.values[places])
        wanted = (
            expected
            if method.__name__ == "inputs"
            else getattr(PREDICTOR, method.__name__)(ROWS, encodings=PREDICTOR.encodings.values[places])
        )
        assert bool((torch.as_tensor(result) == torch.as_tensor(wanted)).all()), "the encodings are those of other ids"


def named(names: list[str], values: st.SearchStrategy[Any] = odd_arguments) -> st.SearchStrategy[tuple[str, Any]]:
    """Return pairs of a name and a value."""
    return st.tuples(st.sampled_from(names), values)


def made_task(argument: tuple[str, Any]) -> None:
    masks = {name.removesuffix("_mask"): mask for name, mask in PARTS.items()}
    arrays = {"features": torch.eye(N), "labels": torch.arange(N) % 2} | masks
    check_task(make_task(**({"graph": GRAPH} | arrays | dict([argument]))), *argument)


def check_task(task: Any, name: str, value: Any) -> None:
    assert len(task.ids) == N, "nodes are lost"
    rows = task.features if isinstance(task.features, torch.Tensor) else task.features.to_dense()
    assert bool(torch.isfinite(rows).all()), "features are not finite"
    if name == "node_ids" and value is not None:
        assert task.ids.values.tolist() == list(np.asarray(value).tolist()), "ids are lost"


EDGE_FRAME = pd.read_csv(io.StringIO(EDGES))
NODE_FRAME = pd.DataFrame({"node_id": np.arange(N) * 3 + 1, "x": np.arange(N) / 2, "label": ["a", "b"] * (N // 2)})


def of_frames(argument: tuple[str, Any]) -> None:
    given = {"edges": EDGE_FRAME, "nodes": NODE_FRAME, "label": "label", "features": ["x"], "split": "0.5/0.25/0.25"}
    from_pandas(**(given | dict([argument])))


def of_arrays(argument: tuple[str, Any]) -> None:
    ends = np.stack([np.arange(N), (np.arange(N) + 1) % N])
    given = {"edges": ends, "features": np.eye(N), "labels": np.arange(N) % 2, "split": "0.5/0.25/0.25"}
    from_arrays(**(given | dict([argument])))


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Return options of `Distiller` with a bad value in one field of one component."""
    registries = {"teacher": teachers, "student": students, "encoder": encoders, "regularizer": regularizers}
    part = draw(st.sampled_from([*registries, "objective", "training"]))
    value = draw(odd_arguments)
    if part in registries:
        kind = draw(st.sampled_from(registries[part].names()))
        names = [name for name in registries[part].config_class(kind).model_fields if name != "kind"]
        spec: dict[str, Any] = {"kind": kind}
    else:
        names, spec = list(type(getattr(resolve_config({}), part)).model_fields), {}
    return {part: spec | {draw(st.sampled_from([*names, "unknown"])): value}}


def configured(values: Mapping[str, Any]) -> None:
    parts = Distiller(**values).config.to_values()
    assert resolve_config(parts).to_values() == parts, "the configuration is another one after it is written"


TEXTS = st.one_of(
    CELLS,
    st.text(alphabet="abc: -[]{}&*!|>'\"\n#,0.e", max_size=40),
    st.sampled_from(["student: {kind: rbm, kind: mlp}", "a: &a [*a]", "seed: 1e400", "!!python/none x", "? [a]: b"]),
    st.tuples(st.sampled_from(sorted(DistillConfig.model_fields)), CELLS).map(": ".join),
)


def configured_by_text(text: str) -> None:
    values = parse_yaml(text, "The configuration")
    resolve_config(values)


PATHS = st.one_of(
    st.sampled_from(
        [*DistillConfig.model_fields, "student.hidden_dim", "training.epochs", "encoder.0.kind", "teacher.a"]
    ),
    st.text(alphabet="abc.0-=[] ", max_size=12),
)


def overridden(assignment: str) -> None:
    resolve_config(with_overrides({}, [assignment]))


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """Return `content` with bytes flipped, cut out, inserted or repeated, or in another encoding."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "empty", "encoding", "garbage"]))
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ 1 << draw(st.integers(0, 7))]) + content[place + 1 :]
    if kind == "cut":
        return content[:place] + content[place + draw(st.integers(1, 4000)) :]
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=8)) + content[place:]
    if kind == "repeat":
        return content + content[place:]
    if kind == "encoding":
        return content.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))
    return b"" if kind == "empty" else draw(st.binary(max_size=100))


@st.composite
def tables(draw: st.DrawFn, text: str) -> bytes:
    """Return a table with a cell, column, row, separator or bytes changed."""
    rows = list(csv.reader(io.StringIO(text)))
    kind = draw(st.sampled_from(["cell", "cell", "cell", "header", "row", "short", "separator", "bytes"]))
    row, column = draw(st.integers(1, len(rows) - 1)), draw(st.integers(0, len(rows[0]) - 1))
    if kind == "bytes":
        return draw(changed(text.encode()))
    if kind == "cell":
        rows[row][column] = draw(CELLS)
    if kind == "header":
        rows[0][column] = draw(st.one_of(CELLS, st.sampled_from(rows[0])))
    if kind == "row":
        rows.insert(row, draw(st.lists(CELLS, max_size=6)))
    if kind == "short":
        rows[row] = rows[row][:column]
    target = io.StringIO()
    csv.writer(target, delimiter=draw(st.sampled_from(";\t| ")) if kind == "separator" else ",").writerows(rows)
    return target.getvalue().encode("utf-8", "surrogatepass")


FOLDER_FILES = {"nodes.csv": NODES, "edges.csv": EDGES, "meta.yaml": META}


@st.composite
def folder_changes(draw: st.DrawFn) -> tuple[str, bytes | None]:
    """Return the name of a file of a CSV folder and its new content; None removes it."""
    name = draw(st.sampled_from(["nodes.csv", "nodes.csv", "edges.csv", "meta.yaml"]))
    if draw(st.integers(0, 30)) == 0:
        return name, None
    if name == "meta.yaml":
        key = draw(st.sampled_from(["dataset_name", "edge_data", "node_data", "separator", "version", "unknown"]))
        added = st.tuples(st.just(META + key), CELLS).map(": ".join).map(partial(str.encode, errors="surrogatepass"))
        return name, draw(st.one_of(changed(META.encode()), added))
    return name, draw(tables(FOLDER_FILES[name]))


def load_folder(change: tuple[str, bytes | None], folder: Path) -> None:
    place = folder / "csv"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, text in FOLDER_FILES.items():
        content = change[1] if name == change[0] else text.encode()
        if content is not None:
            (place / name).write_bytes(content)
    spec = resolve_dataset({"kind": "csv", "path": str(place), "split": "0.5/0.25/0.25"})
    task = load_task(spec, "transductive", 0)
    if change[0] == "nodes.csv" and change[1] is not None:
        check_nodes(task, change[1])


def check_nodes(task: Any, content: bytes) -> None:
    """Compare ids and features with a slow reading of the table, if its cells are plain ASCII text."""
    if not content.isascii() or b"\0" in content:
        return
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    if not rows or not {"node_id", "feat"} <= set(rows[0]) or not all(row["node_id"] for row in rows):
        return
    assert len(task.ids) == len(rows), "nodes are lost or added"
    if task.ids.is_text:
        return
    values = {int(node): i for i, node in enumerate(task.ids.values)}
    for row in rows:
        place = values[int(float(row["node_id"]))]
        wanted = [float(number) for number in re.findall(r"[^\s,;\[\]]+", row["feat"])]
        assert np.allclose(task.features[place].numpy(), wanted), "features are those of another row"


def load_table(content: bytes, folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_bytes(content)
    request = read_request(path, PREDICTOR)
    inputs = request.inputs(PREDICTOR)
    assert inputs.shape[1] == 5, "columns are lost"


DATASET_FILES = ("graph.npz", "graph.mat", "graph.pkl", "graph.csv", "graph.pt")


def dgl_files(folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return damaged files of `dgl.save_graphs`."""
    dgl.save_graphs(str(folder / "sound.bin"), [GRAPH])
    return st.tuples(st.just("graph.bin"), changed((folder / "sound.bin").read_bytes()))


def data_files(folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return names and contents of files that are damaged graphs in the .npz layout."""
    ends = {"edges": np.stack([np.arange(N), (np.arange(N) + 1) % N], 1)}
    heads = {"node_features": np.eye(N), "node_labels": np.arange(N) % 2}
    np.savez(folder / "sound.npz", **ends, **heads, **{f"{name}s": mask.numpy()[None] for name, mask in PARTS.items()})
    return st.tuples(st.sampled_from(DATASET_FILES), changed((folder / "sound.npz").read_bytes()))


def load_file(named_content: tuple[str, bytes], folder: Path) -> None:
    path = folder / named_content[0]
    path.write_bytes(named_content[1])
    load_task(resolve_dataset(str(path)), "transductive", 0)


def saved_run(folder: Path) -> Path:
    """Save a short run."""
    training = {"epochs": 2}
    options = {
        "teacher": {"kind": "gcn", "training": training},
        "encoder": "none",
        "student": {"kind": "mlp", "hidden_dim": 4},
        "training": training,
    }
    dataset = {"kind": "synthetic", "num_nodes": 100}
    return Distiller(**options, device="cpu").fit(dataset, latency_of=()).save(folder / "run")


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Replace the content of a file for a while."""
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def run_changes(run: Path) -> st.SearchStrategy[tuple[str, bytes | None]]:
    """Return changes of the files of a run: damaged, swapped with another, or removed."""
    contents = {path.name: path.read_bytes() for path in sorted(run.iterdir()) if path.is_file()}
    damaged = st.sampled_from(sorted(contents)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.one_of(changed(contents[name]), st.none(), st.sampled_from(list(contents.values())), st.just(b"{}")),
        )
    )
    return damaged


def load_run(change: tuple[str, bytes | None], run: Path, sound: Run) -> None:
    with replaced(run / change[0], change[1]):
        loaded = Run.load(run)
        assert torch.equal(loaded.student_logits, sound.student_logits), "predictions changed"
        assert loaded.config.to_values() == sound.config.to_values(), "the configuration changed"
        assert loaded.metrics == sound.metrics, "the scores changed"


FIT_OPTIONS = ["graph", "features", "labels", "train_mask", "split", "split_index", "latency_of", "shared", "max_hours"]


def fitted(argument: tuple[str, Any]) -> None:
    name, value = argument
    # The graph has one feature that is not finite, so that nothing is trained if the option is accepted.
    graph = GRAPH.clone()
    graph.ndata["feat"] = torch.full((N, 2), torch.nan)
    Distiller(student="mlp", device="cpu").fit(**({"graph": graph} | {name: value}))


def doors(folder: Path) -> list[Door]:
    """Return every door; files are written into `folder`."""
    run = saved_run(folder)
    sound = Run.load(run)
    task = [
        "graph",
        "features",
        "labels",
        "train",
        "val",
        "test",
        "node_ids",
        "split",
        "split_index",
        "classes",
        "seed",
    ]
    task += ["allow_missing_classes", "normalize", "num_classes", "rescale", "setting", "symmetrize", "unseen_fraction"]
    ours = ["graph", "features", "labels", "train_mask", "node_ids", "split", "split_index", "edge_weight"]
    components = ["teacher", "student", "encoder", "regularizer", "setting", "objective", "training", "seed"]
    components += ["device", "callbacks", "unknown"]
    options = [each.name for each in fields(ExperimentOptions) if each.init]
    return [
        Door("make_task", named(task), made_task),
        Door("task_from_graph", named(ours), lambda pair: task_from_graph(**({"graph": GRAPH} | dict([pair])))),
        Door("from_pandas", named(["edges", "nodes", "label", "features", "split", "node_id"]), of_frames),
        Door("from_arrays", named(["edges", "features", "labels", "split", "node_ids"]), of_arrays),
        Door("Predictor", named(["features", "node_ids", "neighbors", "encodings", "mixed"]), predict),
        Door("Distiller", named(components), lambda pair: Distiller(**dict([pair]))),
        Door("Distiller.fit", named(FIT_OPTIONS), fitted),
        Door("Distiller.from_method", named(["method", *components]), of_method),
        Door("fields of configs", configs(), configured),
        Door("YAML texts", TEXTS, configured_by_text),
        Door("--set", st.tuples(PATHS, st.one_of(CELLS, TEXTS)).map("=".join), overridden),
        Door("experiment options", named(options), lambda pair: ExperimentOptions(**({"out": folder} | dict([pair])))),
        Door("prediction tables", tables(TABLE), partial(load_table, folder=folder)),
        Door("CSV folders", folder_changes(), partial(load_folder, folder=folder)),
        Door("graph files", data_files(folder), partial(load_file, folder=folder)),
        Door("DGL files", dgl_files(folder), partial(load_file, folder=folder), apart=True),
        Door("run folders", run_changes(run), partial(load_run, run=run, sound=sound)),
    ]


def of_method(pair: tuple[str, Any]) -> None:
    Distiller.from_method(**({"method": "krd"} | dict([pair])))

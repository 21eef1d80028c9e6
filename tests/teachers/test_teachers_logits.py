"""Precomputed logits: every file format, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError, DataError
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher
from dgl_rbm.teachers.resolve import as_teacher

LOGITS = np.random.default_rng(0).normal(size=(60, 2))


def write(path: Path, logits: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, logits)
    elif path.suffix == ".npz":
        np.savez(path, logits=logits, reliability=np.ones(len(logits)))
    elif path.suffix == ".safetensors":
        save_file({"logits": logits}, path)
    else:
        pd.DataFrame(logits).to_csv(path, index=False, header=False)
    return path


def teacher_of(path: Path, num_classes: int = 2) -> Teacher:
    return as_teacher({"kind": "logits", "path": str(path)}, 6, num_classes)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".csv"])
def test_logits_are_looked_up_by_node_id(suffix: str, observed: ObservedGraph, tmp_path: Path) -> None:
    teacher, context = teacher_of(write(tmp_path / f"scores{suffix}", LOGITS)), RunContext()
    teacher.fit(observed, context)
    assert "teacher" in context.seconds
    ids = torch.tensor([4, 59, 0])
    view = GraphView(dgl.graph(([], []), num_nodes=3), torch.zeros(3, 6), ids)
    output = teacher.predict(view, context)
    torch.testing.assert_close(output.logits, torch.tensor(LOGITS[ids], dtype=torch.float32))
    assert output.hidden is None
    assert teacher.num_parameters() == 0
    assert not teacher.predicts_single_nodes


@pytest.mark.parametrize("header", [["cat", "dog"], ["0", "1"], False])
def test_a_csv_file_may_name_its_columns(header: list[str] | bool, observed: ObservedGraph, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    pd.DataFrame(LOGITS).to_csv(path, index=False, header=header)
    logits = teacher_of(path).predict(observed, RunContext()).logits
    torch.testing.assert_close(logits, torch.tensor(LOGITS, dtype=torch.float32))


def test_whole_numbers_are_logits_too(observed: ObservedGraph, tmp_path: Path) -> None:
    path = write(tmp_path / "votes.npy", np.arange(120).reshape(60, 2))
    assert teacher_of(path).predict(observed, RunContext()).logits.dtype == torch.float32


def broken(values: np.ndarray, row: int, value: float) -> np.ndarray:
    values = values.copy()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("logits", "complaint"),
    [
        (LOGITS[:59], "logits of 59 nodes, but the graph has a node 59"),
        (np.ones((60, 3)), r"shape \(60, 3\), expected \[nodes, 2\]"),
        (np.ones(60), r"shape \(60,\)"),
        (broken(LOGITS, 7, np.nan), "NaN or infinity in 1 rows: 7"),
        (broken(LOGITS, 9, np.inf), "NaN or infinity in 1 rows: 9"),
        (np.full((60, 2), "high"), "expected numbers"),
    ],
)
def test_wrong_logits_are_refused(logits: np.ndarray, complaint: str, observed: ObservedGraph, tmp_path: Path) -> None:
    path = write(tmp_path / "scores.npy", logits)
    with pytest.raises(DataError, match=complaint) as caught:
        teacher_of(path).fit(observed, RunContext())
    assert str(path) in str(caught.value)


def test_a_csv_file_with_words_is_refused(observed: ObservedGraph, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("0.1,0.2\n0.3,high\n")
    with pytest.raises(DataError, match="expected numbers"):
        teacher_of(path).fit(observed, RunContext())


def test_damaged_files_are_refused(observed: ObservedGraph, tmp_path: Path) -> None:
    for suffix in (".npy", ".npz", ".safetensors"):
        path = write(tmp_path / f"scores{suffix}", LOGITS)
        for content in (path.read_bytes()[:100], b"\x93NUMPY\x01\x00\x76\x00{'descr\"", b"", b"no array"):
            path.write_bytes(content)
            with pytest.raises(ArtifactError, match="cannot be read"):
                teacher_of(path).fit(observed, RunContext())
    path = tmp_path / "scores.csv"
    path.write_text("")
    with pytest.raises(ArtifactError, match="cannot be read"):
        teacher_of(path).fit(observed, RunContext())


def test_pickles_are_not_run(observed: ObservedGraph, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    np.save(path, np.array([{"logits": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="cannot be read"):
        teacher_of(path).fit(observed, RunContext())


def test_missing_and_unknown_files_are_refused(observed: ObservedGraph, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no file of logits"):
        teacher_of(tmp_path / "none.npy").fit(observed, RunContext())
    (tmp_path / "scores.txt").write_text("1 2")
    with pytest.raises(ArtifactError, match=r"ends in \.npy"):
        teacher_of(tmp_path / "scores.txt").fit(observed, RunContext())
    np.savez(tmp_path / "scores.npz", scores=LOGITS)
    with pytest.raises(ArtifactError, match="no array 'logits'; it contains scores"):
        teacher_of(tmp_path / "scores.npz").fit(observed, RunContext())


def test_perturbed_features_are_refused_with_a_way_out(observed: ObservedGraph, tmp_path: Path) -> None:
    teacher = teacher_of(write(tmp_path / "scores.npy", LOGITS))
    with pytest.raises(ConfigError, match="krd") as caught:
        teacher.predict(observed, RunContext(), features=observed.features)
    assert "regularizer: none" in caught.value.hint

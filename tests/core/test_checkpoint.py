"""Checkpoints and the files of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dgl_rbm.errors import ArtifactError
from dgl_rbm.training.callbacks import Callback
from dgl_rbm.training.checkpoint import CheckpointStore, NullCheckpointStore, read_state, write_atomic, write_state
from dgl_rbm.training.context import RunContext
from dgl_rbm.training.seeding import derive_seed, seeded


def example_state() -> dict:
    return {
        "weights": {"a": torch.arange(6.0).reshape(2, 3), "flag": torch.tensor(True)},
        "by number": {0: torch.ones(1), 3: 2},
        "mixed": [1, 2.5, None, "text", (torch.zeros(0), False)],
    }


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_nested_state_comes_back_as_it_was(tmp_path: Path) -> None:
    write_state(tmp_path / "s.safetensors", example_state(), note="kept")
    state, header = read_state(tmp_path / "s.safetensors")
    assert same(state, example_state())
    assert header["note"] == "kept"


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_state(tmp_path / name, example_state(), one="1", two="2", three="3", four="4")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_shared_storage_is_written_once_per_name(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    write_state(tmp_path / "s", {"a": shared, "b": shared[:2]})
    assert same(read_state(tmp_path / "s")[0], {"a": shared, "b": shared[:2]})


@pytest.mark.parametrize("cut", [0, 4, 20, -3])
def test_truncated_files_are_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.safetensors"
    write_state(path, example_state())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match="truncated"):
        read_state(path)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ArtifactError, match="format"):
        read_state(tmp_path / "foreign.safetensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_state(tmp_path / "absent.safetensors")


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_stores_ignore_other_runs_and_damaged_files(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "mine")
    assert store.load("stage") is None
    store.save("stage", {"a": 1})
    assert store.load("stage") == {"a": 1}
    assert CheckpointStore(tmp_path, "other").load("stage") is None
    (tmp_path / "stage.safetensors").write_bytes(b"xx")
    assert store.load("stage") is None
    store.discard("stage")
    store.discard("stage")
    null = NullCheckpointStore()
    null.save("stage", {"a": 1})
    assert null.load("stage") is None


def test_cached_parts_keep_their_history_and_seconds(tmp_path: Path) -> None:
    reused: list[str] = []

    class Recorder(Callback):
        def on_stage_reused(self, stage: str, seconds: float) -> None:
            reused.append(stage)

    def run(context: RunContext) -> dict:
        def compute() -> dict:
            with context.stage("part", 2) as stage:
                stage.step(1, loss=0.5)
            return {"value": torch.ones(1)}

        return context.cached("part", compute)

    store = CheckpointStore(tmp_path, "run")
    first, second = RunContext(checkpoints=store), RunContext(checkpoints=store, callbacks=[Recorder()])
    store.save("part-progress", {"half": "done"})
    assert same(run(first), run(second))
    assert store.load("part-progress") is None, "the progress of a finished part is not kept"
    assert first.history == second.history == [{"stage": "part", "step": 1, "loss": 0.5}]
    assert second.seconds == first.seconds
    assert reused == ["part"]


def test_seeding_is_per_stage_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with seeded(0, "teacher"):
        inside = torch.rand(1)
    torch.testing.assert_close(torch.rand(1), expected)
    with seeded(0, "teacher"):
        assert torch.equal(torch.rand(1), inside)
    with seeded(0, "student"):
        assert not torch.equal(torch.rand(1), inside)
    assert derive_seed(0, "a") != derive_seed(1, "a")
    assert 0 <= derive_seed(3, "x") < 2**31

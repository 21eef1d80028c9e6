"""Checkpoints: round trips, atomic writes, and damaged files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dgl_rbm.errors import ArtifactError
from dgl_rbm.runtime import checkpoint
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore, NullCheckpointStore, read_state, write_atomic, write_state
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import derive_seed, seeded


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


def test_nested_state_round_trip(tmp_path: Path) -> None:
    write_state(tmp_path / "s.safetensors", example_state(), note="kept")
    state, header = read_state(tmp_path / "s.safetensors")
    assert same(state, example_state())
    assert header["note"] == "kept"


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_state(tmp_path / name, example_state(), one="1", two="2", three="3", four="4")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_shared_storage_is_written_once_per_name(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    write_state(tmp_path / "s", {"a": shared, "b": shared[:2]})
    assert same(read_state(tmp_path / "s")[0], {"a": shared, "b": shared[:2]})


DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


def test_safetensors_reads_every_type_and_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save

    monkeypatch.setattr(checkpoint, "_BYTES_AT_ONCE", 40)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for i, dtype in enumerate(DTYPES):
        values = torch.randint(0, 2 if dtype == torch.bool else 100, (7, 3, 2), generator=generator).to(dtype)
        parts = {"whole": values, "strided": values.transpose(0, 1), "scalar": values[0, 0, 0], "empty": values[:0]}
        state |= {f"{i} {name}": tensor for name, tensor in parts.items()}
    path = tmp_path / "s.safetensors"
    write_state(path, state)
    assert same(load_file(path), {name: tensor.contiguous() for name, tensor in state.items()})
    assert same(read_state(path)[0], state)
    # As long as the library's own file, apart from the header.
    written, own = path.read_bytes(), save({name: tensor.clone().contiguous() for name, tensor in state.items()})
    lengths = [len(data) - int.from_bytes(data[:8], "little") for data in (written, own)]
    assert lengths[0] == lengths[1]


def test_loaded_tensors_are_writable_and_outlive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    write_state(path, {"a": torch.ones(3000)})
    before = path.read_bytes()
    tensor = read_state(path)[0]["a"]
    tensor += 1
    assert path.read_bytes() == before
    path.unlink()
    assert float(tensor.sum()) == 6000


def test_an_unsupported_type_is_refused_and_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="complex64"):
        write_state(tmp_path / "s", {"a": torch.ones(1, dtype=torch.complex64)})
    assert not list(tmp_path.iterdir())


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


def test_a_failed_write_leaves_the_old_content_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert store.load("part-progress") is None, "the progress of a finished part was kept"
    assert first.history == second.history == [{"stage": "part", "step": 1, "loss": 0.5}]
    assert second.seconds == first.seconds
    assert reused == ["part"]


def test_seeding_is_per_stage_and_restored() -> None:
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

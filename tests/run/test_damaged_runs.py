"""Files of runs, checkpoints and shared parts that were changed after they were written: found and named."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import NodeTask, Run
from dgl_rbm.errors import ArtifactError, ArtifactWarning, DglRbmError
from dgl_rbm.run.manifest import FOR_PEOPLE, MANIFEST, write_manifest
from dgl_rbm.runtime.checkpoint import read_state, write_state

from .conftest import community_task, quick_distiller

FORMER = Path(__file__).resolve().parents[1] / "fixtures" / "run-of-0.1.0"
FLIPS_PER_FILE = 25


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = quick_distiller(encoder="diffusion", student="rbm").fit(community_task("inductive"))
    return run.save(tmp_path_factory.mktemp("saved") / "run")


def flipped(content: bytes, generator: random.Random) -> bytes:
    place, bit = generator.randrange(len(content)), generator.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_every_flipped_bit_is_found_and_its_file_named(saved: Path) -> None:
    generator = random.Random(0)
    for path in sorted(saved.iterdir()):
        content = path.read_bytes()
        for _ in range(FLIPS_PER_FILE):
            path.write_bytes(flipped(content, generator))
            expected = pytest.warns(ArtifactWarning) if path.suffix in FOR_PEOPLE else pytest.raises(ArtifactError)
            with expected as caught:
                Run.load(saved)
            message = str(caught[0].message) if path.suffix in FOR_PEOPLE else str(caught.value)
            assert path.name in message
        path.write_bytes(content)
    Run.load(saved)


@pytest.mark.parametrize("change", ["zeroed", "truncated", "extended", "missing", "of another run"])
def test_other_damage_is_found_in_every_file(saved: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    for path in sorted(folder.iterdir()):
        if path.name in ("metrics.json", "report.md") and change == "missing":
            continue
        content = path.read_bytes()
        damaged = {
            "zeroed": bytes(min(4096, len(content))) + content[4096:],
            "truncated": content[:-1],
            "extended": content + b"\0",
            "of another run": (FORMER / path.name).read_bytes() if (FORMER / path.name).exists() else b"{}",
        }
        path.unlink()
        if change != "missing":
            path.write_bytes(damaged[change])
        if path.suffix in FOR_PEOPLE:
            with pytest.warns(ArtifactWarning, match=path.name):
                Run.load(folder)
        else:
            with pytest.raises(ArtifactError, match=path.name):
                Run.load(folder)
        path.write_bytes(content)
    (folder / "figure.png").write_bytes(b"not in the manifest")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run.load(folder)


def test_a_former_run_without_manifest_ends_in_our_errors(tmp_path: Path) -> None:
    folder, generator = tmp_path / "run", random.Random(1)
    shutil.copytree(FORMER, folder)
    for name in ("metrics.json", "student.safetensors", "encodings.safetensors", "config.yaml", "history.jsonl"):
        content = (folder / name).read_bytes()
        for place in range(0, min(len(content), 3000), 40):
            (folder / name).write_bytes(content[:place] + flipped(content[place:], generator))
            # Without a checksum some changes go unnoticed; none ends in another exception.
            with suppress(DglRbmError):
                run = Run.load(folder)
                _ = run.history, run.config
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("student.safetensors", {"student": "{}", "in_dim": "3", "num_classes": "2"}),
        (
            "student.safetensors",
            {"student": '{"kind": "mlp", "hidden_dim": "wide"}', "in_dim": "3", "num_classes": "2"},
        ),
        ("student.safetensors", {"student": "[" * 100_000, "in_dim": "3", "num_classes": "2"}),
        ("student.safetensors", {"student": '{"kind": "mlp"}', "in_dim": "three", "num_classes": "2"}),
        ("student.safetensors", {"student": '{"kind": "mlp"}', "in_dim": "3"}),
        ("encodings.safetensors", {}),
        ("task.safetensors", {"task": "{}"}),
        ("task.safetensors", {"task": "not JSON"}),
    ],
)
def test_files_of_another_content_are_named(saved: Path, tmp_path: Path, name: str, header: dict[str, str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    write_state(folder / name, {"a": torch.ones(2)}, **header)
    write_manifest(folder, {})
    with pytest.raises(ArtifactError, match=name):
        Run.load(folder)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "", "[" * 100_000, '{"dataset": 3}', "\ud800".encode("utf-8", "surrogatepass")]
)
def test_metrics_of_another_content_are_named(saved: Path, tmp_path: Path, text: Any) -> None:
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    (folder / "metrics.json").write_bytes(text.encode() if isinstance(text, str) else text)
    write_manifest(folder, {})
    with pytest.raises(ArtifactError, match=r"metrics\.json"):
        Run.load(folder)


def test_a_run_without_its_manifest_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match=r"manifest\.json' is missing"):
        Run.load(folder)


def test_another_seed_in_the_configuration_is_found(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    with pytest.raises(ArtifactError, match=r"config\.yaml' does not match its checksum"):
        Run.load(folder)


def test_state_files_find_every_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    write_state(path, {"a": torch.arange(5), "b": [1.5, None]}, note="text")
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(ArtifactError, match=r"truncated|damaged|format"):
                read_state(path)


@pytest.mark.parametrize("place", ["checkpoints", "shared"])
def test_damaged_checkpoints_are_named_and_computed_again(place: str, tmp_path: Path) -> None:
    folder, generator = tmp_path / "parts", random.Random(2)

    def run(task: NodeTask) -> Run:
        where: dict[str, Any] = {"out": folder} if place == "checkpoints" else {"shared": folder}
        return quick_distiller(encoder="diffusion").fit(task, **where)

    task = community_task()
    before = run(task)
    for _ in range(3):
        for path in folder.rglob("*.safetensors"):
            path.write_bytes(flipped(path.read_bytes(), generator))
        with pytest.warns(ArtifactWarning, match=r"safetensors' is .* computed again"):
            again = run(task)
        assert torch.equal(again.student_logits, before.student_logits)
    assert json.dumps(again.history) == json.dumps(before.history)

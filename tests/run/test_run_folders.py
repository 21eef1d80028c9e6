"""Folders of runs: claimed by one process, finished after a kill, left clean after a failure."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dgl_rbm import Run
from dgl_rbm.cli import app
from dgl_rbm.run.folder import RunFolder
from dgl_rbm.runtime import checkpoint
from dgl_rbm.training import epochs

QUICK = (
    "distill",
    "--dataset=synthetic",
    "--student=mlp",
    "--encoder=none",
    "--regularizer=none",
    "--device=cpu",
    "--set=dataset.num_nodes=120",
    "--set=teacher.training.epochs=2",
    "--set=training.epochs=2",
)
NOT_COMPARED = ("metrics.json", "manifest.json", "report.md")


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in NOT_COMPARED}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    invoke(*QUICK, f"--out={folder}")
    return folder


def test_a_figure_is_drawn_and_named_unless_it_is_not_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    figure = folder / "learning.png"
    assert f"Learning curves are drawn in {figure}" in invoke(*QUICK, f"--out={folder}")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "Learning curves" not in invoke(*QUICK, f"--out={folder}", "--overwrite", "--no-plots")
    assert not figure.exists()
    Run.load(folder)


def test_the_same_command_finishes_the_clean_up_and_ends_well(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "clean", lambda self: os._exit(9))
        killed = multiprocessing.get_context("fork").Process(target=invoke, args=(*QUICK, f"--out={folder}"))
        killed.start()
        killed.join()
    assert killed.exitcode == 9
    assert (folder / "started.yaml").exists()
    for _ in range(2):
        assert "was finished before" in invoke(*QUICK, f"--out={folder}")
        assert contents(folder) == contents(whole)
    assert "holds a finished run of other options" in invoke(*QUICK, "--seed=1", f"--out={folder}", code=2)
    (folder / "student.safetensors").write_bytes(b"")
    assert "'student.safetensors' is truncated" in invoke(*QUICK, f"--out={folder}", code=1)
    invoke(*QUICK, f"--out={folder}", "--overwrite")
    assert contents(folder) == contents(whole)


def test_a_run_without_out_finishes_the_clean_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "clean", lambda self: None)
        invoke(*QUICK)
    assert "was finished before" in invoke(*QUICK)
    assert "was finished before" not in invoke(*QUICK)
    assert sorted(path.name for path in Path("runs").iterdir()) == ["synthetic-sage-mlp", "synthetic-sage-mlp-2"]


def test_a_second_process_says_that_a_run_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, outputs = tmp_path / "run", []
    finish = RunFolder.finish

    def finish_slowly(self: RunFolder, run: Run) -> None:
        command = [sys.executable, "-m", "dgl_rbm.cli", *QUICK, f"--out={folder}"]
        outputs.append(subprocess.run(command, capture_output=True, text=True, check=False))
        finish(self, run)

    monkeypatch.setattr(RunFolder, "finish", finish_slowly)
    invoke(*QUICK, f"--out={folder}")
    assert outputs[0].returncode == 2
    assert "a run is under way" in outputs[0].stderr
    assert not (folder / ".lock").exists()


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    left = [folder / ".config.yaml.abcd_123", folder / "checkpoints" / ".teacher.safetensors.x1y2z3w4"]
    other = [folder / ".notes.abcd1234", folder / ".gitignore", folder / ".notes.md"]
    for path in (*left, *other):
        path.touch()
    invoke(*QUICK, f"--out={folder}")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in other)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("cannot allocate"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried "
            "to allocate 400 bytes."
        ),
        OSError(errno.ENOSPC, "No space left on device", "/disk/file"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/disk/file"),
    ],
)
def test_a_failed_run_leaves_nothing_that_refuses_the_next(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    for owner, is_kept in (("dgl_rbm.run.distiller.load_task", False), ("dgl_rbm.run.pipeline.Pipeline.student", True)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, fail)
            output = invoke(*QUICK, f"--out={folder}", "--set=teacher.hidden_dim=16", code=1)
        assert "Traceback" not in output
        assert folder.exists() == is_kept
        if isinstance(error, OSError):
            assert "/disk/file" in output
            assert error.strerror is not None
            assert error.strerror in output
            assert ("What is done is kept" if is_kept else "Nothing is kept") in output
    invoke(*QUICK, f"--out={folder}", "--set=teacher.hidden_dim=8")
    assert not (folder / "checkpoints").exists()


def test_a_full_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, replace = tmp_path / "run", checkpoint.os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "student.safetensors" and Path(target).parent == folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", full)
        output = invoke(*QUICK, f"--out={folder}", code=1)
    assert f"'{folder / 'student.safetensors'}': No space left on device." in output
    assert "the same command" in output
    assert not list(folder.glob(".*"))
    invoke(*QUICK, f"--out={folder}")


def _killed(place: int, folder: Path) -> None:
    """Run the command and kill the process before the file of the number `place` is moved to its place."""
    moved, replace = iter(range(1000)), os.replace

    def kill(source: Any, target: Any) -> None:
        if next(moved) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    checkpoint.os.replace = kill  # type: ignore[assignment]
    epochs._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    invoke(*QUICK, f"--out={folder}")


@pytest.mark.parametrize("place", [0, 2, 5, 8, 11, 15])
def test_a_command_killed_while_it_writes_ends_with_the_same_files(place: int, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = multiprocessing.get_context("fork").Process(target=_killed, args=(place, folder))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    invoke(*QUICK, f"--out={folder}")
    assert contents(folder) == contents(whole)
    assert not list(folder.glob(".*"))


def test_an_interrupt_during_imports_prints_no_traceback() -> None:
    code = (
        "import sys, os, signal, types\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == sys.argv[1]:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "module, sys.argv[2:] = sys.argv[1], []\n"
        "from dgl_rbm.cli import main\n"
        "sys.argv = ['dgl-rbm', 'distill', '--dataset=synthetic', '--out=/dev/null/x']\n"
        "class Again(Finder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == module:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Again())\n"
        "main()\n"
    )
    for module in ("typer", "dgl_rbm.commands.study", "torch", "dgl"):
        result = subprocess.run([sys.executable, "-c", code, module], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (130, "Stopped.\n"), module
        assert not re.search("Traceback", result.stdout)

"""Locks on files, between threads, between processes, and on file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dgl_rbm.runtime.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from dgl_rbm.runtime.locks import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(BlockingIOError, match="another process holds"), locked(path, wait=False):
            raise AssertionError("two hold it")
        assert path.is_file()
    with locked(path, wait=False):
        pass


def test_an_error_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path, remove=True):
        raise KeyError
    assert not path.exists()
    with locked(path, wait=False):
        pass


def test_a_removed_file_never_gives_the_lock_to_two(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(8):
            with locked(path, remove=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.02)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.exists()


def test_a_killed_process_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(BlockingIOError), locked(path, wait=False):
                raise AssertionError("two processes hold it")
        finally:
            other.kill()
        with locked(path):
            assert path.is_file()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
@pytest.mark.parametrize("remove", [True, False])
def test_a_file_system_without_locks_lets_everyone_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remove: bool
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    path, inside = tmp_path / "lock", []
    with locked(path, remove=remove):
        inside.append("first")
        with locked(path, wait=False, remove=remove):
            inside.append("second")
    assert inside == ["first", "second"]
    # Nothing that a killed process would leave behind keeps the next one out.
    with locked(path, wait=False):
        pass


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.EIO, "damaged disk")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="damaged disk"), locked(tmp_path / "lock"):
        raise AssertionError("entered without a lock")

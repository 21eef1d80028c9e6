"""Locks of files between processes, for which open files of one process stand here."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dgl_rbm.runtime.locks import locked


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(BlockingIOError, match="another process holds"), locked(path, wait=False):
            raise AssertionError("two hold it")
        assert path.is_file()
    with locked(path, wait=False):
        pass


def test_an_error_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path, remove=True):
        raise KeyError
    assert not path.exists()
    with locked(path, wait=False):
        pass


def test_who_waited_for_a_file_that_was_removed_holds_the_new_one(tmp_path: Path) -> None:
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

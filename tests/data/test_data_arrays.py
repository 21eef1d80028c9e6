"""Cached arrays: concurrent writers, damaged files, and interrupted writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dgl_rbm.data import arrays as module
from dgl_rbm.data.arrays import kept_arrays, read_arrays
from dgl_rbm.runtime.locks import locked

KEY = {"recipe": 1, "sizes": (2, 3)}
NAMES = ("features", "labels")
EXPECTED = {"features": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([1, 0])}


def make(folder):
    for name, array in EXPECTED.items():
        np.save(folder / f"{name}.npy", array)


def refuse(folder):
    pytest.fail("undamaged arrays were computed again")


def check(found):
    assert set(found) == set(EXPECTED)
    for name, array in EXPECTED.items():
        assert isinstance(found[name], np.memmap)
        np.testing.assert_array_equal(found[name], array)


def check_folder(folder):
    """Check that the folder is undamaged and that nothing lies beside it."""
    check(kept_arrays(folder, KEY, NAMES, refuse))
    assert list(folder.parent.iterdir()) == [folder]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "arrays"


def test_arrays_are_computed_once_and_then_read(folder):
    assert read_arrays(folder, KEY, NAMES) is None
    check(kept_arrays(folder, KEY, NAMES, make))
    check_folder(folder)
    assert read_arrays(folder, {**KEY, "recipe": 2}, NAMES) is None


def test_writing_to_an_array_does_not_change_its_file(folder):
    for _ in range(2):
        found = kept_arrays(folder, KEY, NAMES, make)
        found["features"] *= 2
        np.testing.assert_array_equal(found["features"], 2 * EXPECTED["features"])
    check_folder(folder)


def test_a_folder_of_a_faster_process_is_used(folder):
    inodes = []

    def slow(place):
        make(place)
        check(kept_arrays(folder, KEY, NAMES, make))
        inodes.append(folder.stat().st_ino)

    check(kept_arrays(folder, KEY, NAMES, slow))
    assert folder.stat().st_ino == inodes[0], "a whole folder was replaced"
    check_folder(folder)


@pytest.mark.parametrize("state", ["whole", "damaged"])
def test_another_process_publishes_first(folder, monkeypatch, state):
    kept_arrays(folder, KEY, NAMES, make)
    (folder / "labels.npy").write_bytes(b"")
    replace, came = os.replace, []

    def late(source, target):
        replace(source, target)
        if Path(source) == folder and not came:
            came.append(True)
            folder.mkdir()
            make(folder)
            if state == "whole":
                kept_arrays(folder.with_name("other"), KEY, NAMES, make)
                shutil.copy(folder.with_name("other") / "key.json", folder)
                shutil.rmtree(folder.with_name("other"))

    monkeypatch.setattr(os, "replace", late)
    check(kept_arrays(folder, KEY, NAMES, make))
    assert came
    monkeypatch.undo()
    check_folder(folder)


def test_a_folder_in_replacement_is_read_again(folder, monkeypatch):
    kept_arrays(folder, KEY, NAMES, make)
    away = folder.with_name("away")
    read_text = Path.read_text

    def then_away(path, **options):
        text = read_text(path, **options)
        monkeypatch.undo()
        os.replace(folder, away)
        threading.Timer(0.01, os.replace, (away, folder)).start()
        # Long enough for the others of the looks to find it back, short enough to be away for the first.
        monkeypatch.setattr(module, "_PAUSE", 0.5)
        return text

    monkeypatch.setattr(Path, "read_text", then_away)
    check(kept_arrays(folder, KEY, NAMES, refuse))


def test_threads_that_write_the_same_folder_all_get_the_arrays(folder):
    count = 4
    with ThreadPoolExecutor(count) as pool:
        for attempt in range(15):
            barrier = threading.Barrier(count)
            if attempt % 3 == 1:
                (folder / "labels.npy").write_bytes(b"damaged")
            elif attempt % 3 == 2:
                shutil.rmtree(folder)

            def together(barrier=barrier):
                barrier.wait()
                return kept_arrays(folder, KEY, NAMES, make)

            for found in [pool.submit(together) for _ in range(count)]:
                check(found.result())
            check_folder(folder)


def test_processes_that_write_the_same_graph_all_get_it(tmp_path):
    code = """
import sys
from dgl_rbm.data.synthetic import SyntheticConfig
print("ready", flush=True)
sys.stdin.readline()
print(float(SyntheticConfig(num_nodes=20000, memory_map="always").load(0).features.sum(dtype="float64")))
"""
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for _ in range(2)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert said[0] == said[1]
    assert len(list((tmp_path / "dgl-rbm" / "synthetic").iterdir())) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, 70, -1])
def test_a_changed_byte_is_detected(folder, name, place):
    kept_arrays(folder, KEY, NAMES, make)
    content = bytearray((folder / f"{name}.npy").read_bytes())
    content[place] ^= 1
    (folder / f"{name}.npy").write_bytes(content)
    assert read_arrays(folder, KEY, NAMES) is None
    check(kept_arrays(folder, KEY, NAMES, make))
    check_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["arrays"].pop("labels"),
        lambda about: about["arrays"].update(more=about["arrays"]["labels"]),
        lambda about: about["arrays"].update(labels=None),
        lambda about: about["arrays"].update(labels=["int64", [2]]),
        lambda about: about["arrays"]["labels"].update(crc32=[]),
        lambda about: about.pop("arrays"),
        lambda about: about.update(arrays=["features", "labels"]),
        lambda about: about.pop("key"),
    ],
)
def test_a_key_file_with_missing_or_extra_entries_is_replaced(folder, change):
    kept_arrays(folder, KEY, NAMES, make)
    about = json.loads((folder / "key.json").read_text())
    change(about)
    (folder / "key.json").write_text(json.dumps(about))
    check(kept_arrays(folder, KEY, NAMES, make))
    check_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '"text"'])
def test_a_damaged_key_file_is_replaced(folder, content):
    kept_arrays(folder, KEY, NAMES, make)
    (folder / "key.json").write_text(content)
    check(kept_arrays(folder, KEY, NAMES, make))
    check_folder(folder)


def test_long_files_are_compared_in_evenly_spaced_parts(folder, monkeypatch):
    monkeypatch.setattr(module, "_PART", 8)
    monkeypatch.setattr(module, "_MOST_PARTS", 3)
    kept_arrays(folder, KEY, NAMES, make)
    whole = (folder / "features.npy").read_bytes()
    parts = len(whole) // 8
    noticed = []
    for part in range(parts):
        content = bytearray(whole)
        content[8 * part + 7] ^= 1
        (folder / "features.npy").write_bytes(content)
        if read_arrays(folder, KEY, NAMES) is None:
            noticed.append(part)
    assert {0, round((parts - 1) / 2), parts - 1} <= set(noticed)
    assert len(noticed) < parts


def test_everything_is_flushed_to_disk_before_it_is_published(folder, monkeypatch):
    synchronized, fsync, replace = set(), os.fsync, os.replace

    def recorded(descriptor):
        fsync(descriptor)
        synchronized.add(os.fstat(descriptor).st_ino)

    def checked(source, target):
        place = Path(source)
        assert {path.stat().st_ino for path in (place, *place.iterdir())} <= synchronized
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", checked)
    kept_arrays(folder, KEY, NAMES, make)
    assert folder.parent.stat().st_ino in synchronized


def test_a_file_in_place_of_the_folder_is_not_removed(folder):
    folder.parent.mkdir()
    folder.write_text("mine")
    with pytest.raises(OSError, match="Not a directory"):
        kept_arrays(folder, KEY, NAMES, make)
    assert folder.read_text() == "mine"
    assert list(folder.parent.iterdir()) == [folder]


def test_temporary_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    left, young, held = (tmp_path / f".kept.abcd{name}" for name in ("left", "soon", "held"))
    for path in (left, young, held):
        path.mkdir()
        (path / "x.npy").write_bytes(b"half")
    with locked(held / ".lock"):
        for path in (left, held):
            os.utime(path, (0, 0))
        kept_arrays(tmp_path / "kept", {}, ["x"], lambda folder: np.save(folder / "x.npy", np.ones(3)))
    assert not left.exists()
    assert young.exists()
    assert held.exists()

"""Rows mapped from files: not loaded as a whole, and a write to them never reaches the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "features.npy", VALUES)
    return tmp_path / "features.npy"


def test_a_flipped_bit_of_a_header_is_read_or_raises_npy_damage(path: Path) -> None:
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole) - VALUES.nbytes):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                with path.open("rb") as file:
                    map_npy(file)
            except NPY_DAMAGE:
                refused += 1
    assert refused > len(whole)


def follows_the_file(rows: torch.Tensor, path: Path) -> bool:
    """Whether rows that were not written to show the current content of the file."""
    in_file = np.load(path, mmap_mode="r+")
    in_file[...] += 100
    in_file.flush()
    return bool((rows >= 100).all())


COPY_ON_WRITE: dict[str, Callable[[Path], np.ndarray]] = {
    "numpy": lambda path: np.load(path, mmap_mode="c"),
    "raw": lambda path: np.memmap(path, np.float32, "c", offset=path.stat().st_size - VALUES.nbytes, shape=(4, 3)),
    "map_npy": lambda path: map_npy(path.open("rb")),
    "rows": lambda path: np.load(path, mmap_mode="c")[1:3],
    "transposed": lambda path: np.load(path, mmap_mode="c").T,
    "with gaps": lambda path: np.load(path, mmap_mode="c")[::2, 1:],
}
COPIED: dict[str, Callable[[Path], np.ndarray]] = {
    "read-only": lambda path: np.load(path, mmap_mode="r"),
    "writable": lambda path: np.load(path, mmap_mode="r+"),
    "rows reversed": lambda path: np.load(path, mmap_mode="c")[::-1],
    "columns reversed": lambda path: np.load(path, mmap_mode="c")[:, ::-1],
    "picked": lambda path: np.load(path, mmap_mode="c")[[2, 0]],
    "broadcast": lambda path: np.broadcast_to(np.load(path, mmap_mode="r")[:1], (4, 3)),
    "empty": lambda path: np.load(path, mmap_mode="r")[:0],
    "copy": lambda path: np.load(path, mmap_mode="c").copy(),
}


@pytest.mark.parametrize("kind", COPY_ON_WRITE)
def test_rows_mapped_copy_on_write_stay_on_disk(path: Path, kind: str) -> None:
    given = COPY_ON_WRITE[kind](path)
    expected = np.array(given)
    rows = as_rows(given)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows, expected)
    assert follows_the_file(rows, path), "the rows were copied into memory"


@pytest.mark.parametrize("kind", COPIED)
def test_other_mapped_rows_are_copied(path: Path, kind: str) -> None:
    given = COPIED[kind](path)
    expected = np.array(given)
    rows = as_rows(given)
    np.testing.assert_array_equal(rows, expected)
    follows_the_file(rows, path)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("kind", [*COPY_ON_WRITE, *COPIED])
def test_writing_to_mapped_rows_leaves_the_file_alone(path: Path, kind: str) -> None:
    before = path.read_bytes()
    rows = as_rows((COPY_ON_WRITE | COPIED)[kind](path))
    expected = rows.clone().mul_(2)
    rows.mul_(2)
    torch.testing.assert_close(rows, expected, rtol=0, atol=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_file_that_replaces_the_mapped_one_is_not_read(path: Path, mode: Literal["r", "c"]) -> None:
    mapped = np.load(path, mmap_mode=mode)
    np.save(path.with_name("other.npy"), VALUES + 50)
    os.replace(path.with_name("other.npy"), path)
    np.testing.assert_array_equal(as_rows(mapped), VALUES)
    path.unlink()
    np.testing.assert_array_equal(as_rows(mapped), VALUES)


def test_features_larger_than_memory_are_mapped(tmp_path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = 4 * memory // (4 * 1024)
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, 1024)}
        np.lib.format.write_array_header_1_0(file, header)
        # A sparse file: its zeros take no space on disk.
        file.truncate(file.tell() + count * 4096)
    with (tmp_path / "huge.npy").open("rb") as file:
        rows = as_rows(map_npy(file))
    assert rows.shape == (count, 1024)
    rows[count // 2] = 1
    assert rows[count // 2 - 1 : count // 2 + 2].sum() == 1024


def test_another_type_is_converted(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones((2, 2)))
    assert as_rows(np.load(tmp_path / "wide.npy", mmap_mode="r")).dtype == torch.float32


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", ">u2"])
def test_either_byte_order_is_read(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "other.npy", VALUES.astype(dtype))
    np.testing.assert_array_equal(as_rows(np.load(tmp_path / "other.npy", mmap_mode="r")), VALUES)
    np.testing.assert_array_equal(as_rows(VALUES.astype(dtype)), VALUES)

"""Rows that lie in files: never loaded whole, and writing to them changes nothing but the rows themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dgl_rbm.rows import memory_mapped as _mapped
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "features.npy", VALUES)
    return tmp_path / "features.npy"


def test_each_flipped_bit_of_a_header_is_read_or_is_damage(path: Path) -> None:
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
    """Whether pages that were not written to show what the file holds now."""
    in_file = np.load(path, mmap_mode="r+")
    in_file[...] += 100
    in_file.flush()
    return bool((rows >= 100).all())


SHARED: dict[str, Callable[[Path], np.ndarray]] = {
    "r": lambda path: np.load(path, mmap_mode="r"),
    "r+": lambda path: np.load(path, mmap_mode="r+"),
    "c": lambda path: np.load(path, mmap_mode="c"),
    "raw": lambda path: np.memmap(path, np.float32, "r", offset=path.stat().st_size - VALUES.nbytes, shape=(4, 3)),
    "rows": lambda path: np.load(path, mmap_mode="r")[1:3],
    "columns first": lambda path: np.load(path, mmap_mode="r").T,
    "own": lambda path: map_npy(path.open("rb")),
}


@pytest.mark.parametrize("kind", SHARED)
def test_rows_mapped_from_a_file_stay_there(path: Path, kind: str) -> None:
    given = SHARED[kind](path)
    expected = np.array(given)
    rows = as_rows(given)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows, expected)
    assert follows_the_file(rows, path), "the rows were copied into memory"


@pytest.mark.parametrize("kind", SHARED)
def test_writing_to_mapped_rows_leaves_the_file_alone(path: Path, kind: str) -> None:
    before = path.read_bytes()
    rows = as_rows(SHARED[kind](path))
    expected = rows.clone().mul_(2)
    rows.mul_(2)
    torch.testing.assert_close(rows, expected, rtol=0, atol=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "pick",
    [
        lambda mapped: mapped[::-1],
        lambda mapped: mapped[:, ::-1],
        lambda mapped: mapped[::2],
        lambda mapped: mapped[:, 1:],
        lambda mapped: mapped[[2, 0]],
        lambda mapped: np.broadcast_to(mapped[:1], (4, 3)),
        lambda mapped: mapped[:0],
        lambda mapped: mapped.copy(),
    ],
)
@pytest.mark.parametrize("mode", ["r", "c"])
def test_what_cannot_be_mapped_is_copied(path: Path, pick: Callable[[np.ndarray], np.ndarray], mode: str) -> None:
    given = pick(np.load(path, mmap_mode=mode))  # type: ignore[call-overload]
    rows = as_rows(given)
    np.testing.assert_array_equal(rows, np.array(given))
    rows.add_(0)


def test_a_file_that_took_the_name_of_the_mapped_one_is_not_read(path: Path) -> None:
    mapped = np.load(path, mmap_mode="r")
    np.save(path.with_name("other.npy"), VALUES + 50)
    os.replace(path.with_name("other.npy"), path)
    np.testing.assert_array_equal(as_rows(mapped), VALUES)
    path.unlink()
    np.testing.assert_array_equal(as_rows(mapped), VALUES)


def test_where_the_system_does_not_tell_the_mapped_file_it_is_copied(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mapped, "_MAPPINGS", path.with_name("nothing"))
    rows = as_rows(np.load(path, mmap_mode="r"))
    np.testing.assert_array_equal(rows, VALUES)
    assert not follows_the_file(rows, path)


def test_features_larger_than_memory_are_mapped(tmp_path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = 4 * memory // (4 * 1024)
    with (tmp_path / "huge.npy").open("wb") as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": (count, 1024)}
        np.lib.format.write_array_header_1_0(file, about)
        # Zeros that take no place on the disk.
        file.truncate(file.tell() + count * 4096)
    rows = as_rows(np.load(tmp_path / "huge.npy", mmap_mode="r"))
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

"""Arrays in files, mapped copy-on-write: who writes to one changes its own pages, neither the file nor another process.

Pages that may not be written to are no choice, for torch knows no read-only tensor: a component that writes in place
would end the process with a segmentation fault.
"""

from __future__ import annotations

import mmap
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

__all__ = ["NPY_DAMAGE", "map_npy", "own_mapping"]

# Raised for damaged .npy and .npz files: NumPy evaluates the header as a Python literal and lets the errors of the
# tokenizer through, on every Python (`tokenize.TokenError`, no subclass of `ValueError` or `SyntaxError`).
NPY_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    SyntaxError,
    ArithmeticError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

# Linux's value on the processors that DGL is built for; Python names it from version 3.13 on.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_MAPPINGS = Path("/proc/self/maps")


def map_npy(file: BinaryIO) -> np.memmap:
    """Map the array of an open ``.npy`` file.

    Raises
    ------
    NPY_DAMAGE
        If the file is no such file, is truncated or damaged, or holds Python objects.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format is not read")
    if dtype.hasobject:
        raise ValueError("the array holds Python objects")
    return _map(file, dtype, shape, file.tell(), "F" if fortran_order else "C")


def own_mapping(values: np.memmap) -> np.memmap | None:
    """Map again, copy-on-write, what `values` shows of its file; None where that cannot be done for certain.

    It is certain where the part of the file is contiguous and the file of that name is still the mapped one, which
    Linux tells.
    """
    whole: Any = values
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    order: Literal["C", "F"] | None = "C" if values.flags.c_contiguous else "F" if values.flags.f_contiguous else None
    filename = getattr(whole, "filename", None)
    if order is None or filename is None or not isinstance(whole.base, mmap.mmap) or not values.size:
        return None
    offset = whole.offset + values.ctypes.data - whole.ctypes.data
    try:
        with Path(filename).open("rb") as file:
            mapped = _map(file, values.dtype, values.shape, offset, order)
        same = _file_at(values.ctypes.data) == _file_at(mapped.ctypes.data)
    except (OSError, ValueError, LookupError):
        return None
    return mapped if same else None


def _map(
    file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Literal["C", "F"]
) -> np.memmap:
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    length = offset - start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if hasattr(mmap, "MAP_PRIVATE"):
        # What `numpy.memmap` does not ask for: no reserve, without which Linux refuses what is larger than memory.
        flags, rights = mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        buffer = mmap.mmap(file.fileno(), length, flags=flags, prot=rights, offset=start)
    else:
        buffer = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)
    mapped: Any = np.ndarray.__new__(np.memmap, shape, dtype, buffer, offset - start, None, order)
    # As the constructor of `numpy.memmap`, which takes no flags, leaves them.
    mapped._mmap, mapped.offset, mapped.mode = buffer, offset, "c"
    mapped.filename = Path(file.name).resolve()
    return mapped


def _file_at(address: int) -> tuple[str, str]:
    """Return device and inode, as Linux writes them, of the file that is mapped at `address`."""
    for line in _MAPPINGS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, _, _, device, inode = line.split(maxsplit=5)[:5]
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return device, inode
    raise LookupError(f"nothing is mapped at {address:#x}")

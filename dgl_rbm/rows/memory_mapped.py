"""Memory mapping of ``.npy`` files, copy-on-write.

A write to mapped rows changes private pages of this process, neither the file nor another process. Read-only pages are
no alternative: torch has no read-only tensors, and an in-place write to such a page ends the process with a
segmentation fault.
"""

from __future__ import annotations

import mmap
import struct
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

import numpy as np

__all__ = ["NPY_DAMAGE", "map_npy", "read_npy_header"]

# Raised for damaged .npy and .npz files. NumPy evaluates the header as a Python literal and does not catch the errors
# of the tokenizer; `tokenize.TokenError` is a subclass of neither `ValueError` nor `SyntaxError`.
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
    # A damaged shape.
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

# Linux's value on the processors that DGL is built for; Python has the constant from version 3.13 on.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an open ``.npy`` file: shape, whether the order is Fortran's, and data type.

    Raises
    ------
    NPY_DAMAGE
        If the file has another format or is damaged, or the array contains Python objects.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format is not supported")
    if dtype.hasobject:
        raise ValueError("the array contains Python objects")
    return shape, fortran_order, dtype


def map_npy(file: BinaryIO) -> np.memmap:
    """Map the array of an open ``.npy`` file copy-on-write; it may be larger than memory.

    Raises
    ------
    NPY_DAMAGE
        If the file has another format, is truncated or damaged, or contains Python objects.
    """
    shape, fortran_order, dtype = read_npy_header(file)
    offset = file.tell()
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    length = offset - start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if hasattr(mmap, "MAP_PRIVATE"):
        # `numpy.memmap` reserves memory for every page; Linux refuses that for a file larger than memory.
        flags, access = mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        buffer = mmap.mmap(file.fileno(), length, flags=flags, prot=access, offset=start)
    else:
        buffer = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)
    order: Literal["C", "F"] = "F" if fortran_order else "C"
    mapped: Any = np.ndarray.__new__(np.memmap, shape, dtype, buffer, offset - start, None, order)
    # The attributes that the constructor of `numpy.memmap` sets; it has no argument for the flags.
    mapped._mmap, mapped.offset, mapped.mode = buffer, offset, "c"
    mapped.filename = Path(file.name).resolve()
    return mapped

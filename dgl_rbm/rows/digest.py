"""Digest of tensors, whether they are in memory or mapped from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from torch import Tensor

__all__ = ["digest"]

_ROWS_AT_ONCE = 2**20


def digest(parts: Iterable[Tensor], text: str = "") -> str:
    """Return the SHA-256 digest of `text` and of the shapes and contents of `parts`, 64 hexadecimal digits."""
    found = hashlib.sha256(text.encode())
    for part in parts:
        found.update(str(tuple(part.shape)).encode())
        rows = part.detach().cpu()
        # Piece by piece: the rows may lie on disk, and Ctrl-C takes effect in between.
        for piece in (rows if rows.dim() else rows[None]).split(_ROWS_AT_ONCE):
            found.update(piece.contiguous().numpy().data)
    return found.hexdigest()

"""Names of files made of what is compared, such as the path of a graph."""

from __future__ import annotations

import hashlib
import re

__all__ = ["file_name"]

# File systems take 255 bytes; what is made of a name has an ending of its own.
_LONGEST = 120


def file_name(text: str) -> str:
    """Return a readable file name without folders, another one for another text.

    If it is not the text itself, it ends with a digest of the text.
    """
    name = re.sub(r"[^A-Za-z0-9.+_-]+", "_", text)
    if name == text and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"

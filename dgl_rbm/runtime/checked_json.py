"""JSON files that contain the SHA-256 digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["read_checked_json", "write_checked_json"]

_DIGEST = "sha256"


def write_checked_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object and the digest of its text, atomically."""
    digest = hashlib.sha256(_text(content).encode()).hexdigest()
    write_atomic(path, _text({**content, _DIGEST: digest}))


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; files of former versions, which contain no digest, are not verified.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError or another of ``DAMAGED_JSON``
        If it contains no JSON object, or its digest differs.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    digest = content.pop(_DIGEST, None)
    if digest is not None and hashlib.sha256(_text(content).encode()).hexdigest() != digest:
        raise ValueError("its content does not match its checksum")
    return dict(content)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1)

"""Manifest of a run's folder: size and SHA-256 digest of each file, verified before anything is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ArtifactError, ArtifactWarning, warn
from dgl_rbm.runtime.checkpoint import DAMAGED_JSON, write_atomic

__all__ = ["MANIFEST", "STARTED", "verify_files", "write_manifest"]

MANIFEST = "manifest.json"
# Contains the configuration of a run under way; removed after the run is saved.
STARTED = "started.yaml"
# Nothing is read from reports and figures.
FOR_PEOPLE = (".md", ".png", ".svg")
_FORMAT = 1
_BYTES_AT_ONCE = 2**24
_HINT = (
    "Restore the file from a copy of the run, or repeat the run. For other options, distil again with a changed copy "
    "of config.yaml; for a graph that was moved, use `dgl_rbm.Run.load(folder, task=task)`."
)


def write_manifest(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write the manifest of a run's files.

    Parameters
    ----------
    folder : Path
        Every file in it is listed, except `STARTED`, those whose names start with a dot, and folders.
    content : mapping of str to bytes
        Files that will be written after the manifest.
    """
    found = {
        path.name: (path.stat().st_size, _digest(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name not in (MANIFEST, STARTED)
    }
    found |= {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    files = {name: {"size": size, "sha256": digest} for name, (size, digest) in sorted(found.items())}
    write_atomic(folder / MANIFEST, _text(files))


def verify_files(folder: Path) -> bool:
    """Verify every file of a run; return False for a run of a former version, which has no manifest.

    Files that are not in the manifest are ignored.

    Raises
    ------
    ArtifactError
        If the manifest is damaged, or a file is missing or differs from the one that was written; names all such files.

    Warns
    -----
    ArtifactWarning
        If only files for people differ, from which nothing is read.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        files = json.loads(text)["files"]
        # Compared as text, so that every changed byte is found, not only those that change a value.
        if text != _text(files):
            raise ValueError("its checksum differs")
        listed = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}.") from None
    except DAMAGED_JSON as error:
        raise ArtifactError(f"'{path}' is damaged: {error}.", hint=_HINT) from None
    problems = {name: _problem(folder / name, size, digest) for name, (size, digest) in listed.items()}
    changed = {name: problem for name, problem in problems.items() if problem is not None}
    if not changed:
        return True
    message = f"The run in '{folder}' was changed after it was saved: {'; '.join(changed.values())}."
    if any(Path(name).suffix not in FOR_PEOPLE for name in changed):
        raise ArtifactError(message, hint=_HINT)
    warn(message, ArtifactWarning)
    return True


def _text(files: Mapping[str, Any]) -> str:
    listed = json.dumps(files, indent=2, sort_keys=True)
    digest = hashlib.sha256(listed.encode()).hexdigest()
    return json.dumps({"format": _FORMAT, "sha256": digest, "files": files}, indent=2, sort_keys=True) + "\n"


def _problem(path: Path, size: int, digest: str) -> str | None:
    try:
        found = path.stat().st_size
        if found < size:
            return f"'{path.name}' is truncated to {found} of {size} bytes"
        if found > size:
            return f"'{path.name}' has {found} bytes instead of {size}"
        return None if _digest(path) == digest else f"the content of '{path.name}' does not match its checksum"
    except FileNotFoundError:
        return f"'{path.name}' is missing"
    except OSError as error:
        return f"'{path.name}' cannot be read ({error.strerror})"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()

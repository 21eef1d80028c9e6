"""Checkpoints of stages as atomic safetensors files, from which a killed run resumes to the same result.

Each file contains the SHA-256 digest of its content, which is verified before anything is read from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dgl_rbm.errors import ArtifactError, ArtifactWarning, warn

__all__ = [
    "DAMAGED_JSON",
    "CheckpointStore",
    "NullCheckpointStore",
    "flatten_state",
    "read_state",
    "remove_temporary_files",
    "unflatten_state",
    "write_atomic",
    "write_state",
]

_FORMAT = "dgl-rbm-2"
# Without a digest.
_FORMER_FORMAT = "dgl-rbm-1"
_NO_DIGEST = "0" * 64
_DIGEST = re.compile(rb'"sha256": "([0-9a-f]{64})"')
# Raised for JSON that was damaged, or has another structure than the one it was written with.
DAMAGED_JSON = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)
_HINT = "Copy the file again, or repeat what wrote it."
_BYTES_AT_ONCE = 2**24
# Names of `_replacing`.
_TEMPORARY = re.compile(r"\..+\.(safetensors|json|jsonl|yaml|md|png|csv|txt)\.[a-z0-9_]{8}")
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file atomically: `path` contains either the old content or all of the new one."""
    data = content.encode() if isinstance(content, str) else content
    with _replacing(path) as file:
        file.write(data)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces `path` once it is flushed to disk.

    Raises
    ------
    OSError
        With the name of `path`, for example if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp restricts permissions to the owner; a run's files have the default ones.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)
        raise


def remove_temporary_files(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of files that they wrote to a folder and those in it.

    Parameters
    ----------
    folder : Path
    name : str
        Pattern of the names of the files, which no process may write meanwhile.
    """
    for path in folder.rglob(f".{name}.*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flatten_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into tensors by path and a JSON skeleton that refers to them.

    The tensors are not copied.
    """
    tensors: dict[str, Tensor] = {}

    def visit(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach()
            return {"tensor": path}
        if isinstance(value, Mapping):
            # Pairs, because JSON would convert the integer keys of optimiser states to strings.
            return {"map": [[key, visit(item, f"{path}/{key}" if path else str(key))] for key, item in value.items()]}
        if isinstance(value, (tuple, list)):
            items = [visit(item, f"{path}/{i}") for i, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        return {"value": value}

    return tensors, visit(state, "")


def unflatten_state(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """Undo `flatten_state`."""
    ((form, content),) = skeleton.items()
    if form == "tensor":
        return tensors[content]
    if form == "map":
        return {key: unflatten_state(tensors, item) for key, item in content}
    if form in ("list", "tuple"):
        items = [unflatten_state(tensors, item) for item in content]
        return tuple(items) if form == "tuple" else items
    return content


def write_state(path: Path, state: Any, **metadata: str) -> None:
    """Write nested dicts, lists, scalars and tensors to one safetensors file, atomically.

    The tensors are streamed, so that the file is never held in memory. Equal states give equal files.
    """
    tensors, skeleton = flatten_state(state)
    # The widest types first, as safetensors itself does, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {
        "__metadata__": {"format": _FORMAT, "skeleton": json.dumps(skeleton), "sha256": _NO_DIGEST, **metadata},
    }
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _dtype_name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    text = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(text)
    place = _digest_place(text)
    with _replacing(path) as file:
        file.write(text)
        for name in order:
            for part in _bytes_of(tensors[name]):
                digest.update(part)
                file.write(part)
        file.seek(place)
        file.write(digest.hexdigest().encode())


def _dtype_name(dtype: torch.dtype) -> str:
    if dtype not in _DTYPES:
        raise TypeError(f"a tensor of {dtype} cannot be written to a safetensors file")
    return _DTYPES[dtype]


def _bytes_of(tensor: Tensor) -> Iterator[memoryview]:
    """Yield the little-endian content of a tensor in blocks of rows of bounded size."""
    if not tensor.numel():
        return
    rows = tensor.reshape(1) if tensor.dim() == 0 else tensor
    at_once = max(1, _BYTES_AT_ONCE // (rows[0].numel() * rows.element_size()))
    for part in rows.split(at_once):
        content = part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            content = content.reshape(-1, tensor.element_size())[:, ::-1].copy()
        yield memoryview(content).cast("B")


def _digest_place(header: bytes) -> int:
    """Return the offset of the digest in the length and the text of a header; −1 if it has none."""
    # The names of tensors and the skeleton are JSON within JSON, whose quotes are escaped: there is one match.
    found = _DIGEST.search(header)
    return found.start(1) if found else -1


def _is_undamaged(path: Path) -> bool:
    """Whether the content of a file has the digest that it contains; files of the former format have none."""
    with path.open("rb") as file:
        length = file.read(8)
        size = int.from_bytes(length, "little")
        if len(length) < 8 or size > os.fstat(file.fileno()).st_size - 8:
            return False
        header = length + file.read(size)
        place = _digest_place(header)
        if place < 0:
            return f'"format": "{_FORMER_FORMAT}"'.encode() in header
        digest = hashlib.sha256(header[:place] + _NO_DIGEST.encode() + header[place + 64 :])
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest().encode() == header[place : place + 64]


def read_state(path: Path, *, verified: bool = False) -> tuple[Any, dict[str, str]]:
    """Read a file of `write_state`; tensors may be mapped from it, and writing to them does not change it.

    Parameters
    ----------
    path : Path
    verified : bool
        Whether its content was compared with a checksum already.

    Returns
    -------
    state : Any
    metadata : dict of str to str

    Raises
    ------
    ArtifactError
        If the file is missing, truncated, or of another format.
    """
    try:
        # For a missing file, `safe_open` raises an error without a reason.
        undamaged = path.stat().st_size > 0 if verified else _is_undamaged(path)
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}.") from None
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if os.name == "nt":
            # Windows can neither replace nor remove a mapped file.
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (SafetensorError, *DAMAGED_JSON):
        raise ArtifactError(f"'{path}' is truncated or is not a safetensors file.", hint=_HINT) from None
    if header.get("format") not in (_FORMAT, _FORMER_FORMAT):
        raise ArtifactError(
            f"'{path}' has the format {header.get('format')!r}; this version reads {_FORMAT!r}.",
            hint="Use the version of dgl-rbm that wrote it, or run `dgl-rbm distill` again.",
        )
    header.pop("sha256", None)
    if not undamaged:
        raise ArtifactError(f"'{path}' is damaged: its content does not match its checksum.", hint=_HINT)
    try:
        return unflatten_state(tensors, json.loads(header.pop("skeleton"))), header
    except DAMAGED_JSON as error:
        raise ArtifactError(f"'{path}' is damaged: {error!r}.", hint=_HINT) from None


class CheckpointStore:
    """Finished and half-finished stages of one run, as files in a folder.

    Parameters
    ----------
    folder : Path
        Created when the first state is written.
    fingerprint : str
        Digest of the run's configuration and data; files of another fingerprint are ignored.
    """

    enabled = True

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, name: str, state: Any) -> None:
        """Save `state` under `name`, replacing the previous one atomically."""
        write_state(self._path(name), state, fingerprint=self.fingerprint)

    def load(self, name: str) -> Any | None:
        """Return the state saved under `name` with the same fingerprint, or None."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            state, header = read_state(path)
        except ArtifactError as error:
            # A damaged checkpoint costs only time.
            warn(f"{error.message} What it held is computed again.", ArtifactWarning)
            return None
        return state if header.get("fingerprint") == self.fingerprint else None

    def discard(self, name: str) -> None:
        """Remove the state saved under `name`, if any."""
        self._path(name).unlink(missing_ok=True)

    def keyed(self, fingerprint: str) -> CheckpointStore:
        """Return a store of the same folder for states of another fingerprint."""
        return CheckpointStore(self.folder, fingerprint)

    def under(self, name: str) -> CheckpointStore:
        """Return a store of the same run with a separate namespace."""
        return CheckpointStore(self.folder / name, self.fingerprint)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class NullCheckpointStore(CheckpointStore):
    """Store that saves nothing."""

    enabled = False

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def save(self, name: str, state: Any) -> None:
        """Do nothing."""

    def load(self, name: str) -> Any | None:
        """Return None."""
        return None

    def discard(self, name: str) -> None:
        """Do nothing."""

    def keyed(self, fingerprint: str) -> CheckpointStore:
        """Return the same."""
        return self

    def under(self, name: str) -> CheckpointStore:
        """Return this store."""
        return self


def rng_state() -> dict[str, Tensor]:
    """Return the states of torch's random generators, for a checkpoint within a stage."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_rng_state(states: Mapping[str, Tensor]) -> None:
    """Restore the states of torch's random generators."""
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        if name != "cpu" and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, name)

"""comparison.json: by which command, with which versions and on which machine a comparison was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dgl_rbm.errors import ArtifactError
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.runtime.environment import hardware, versions

__all__ = ["RECORD", "command_line", "read_record", "write_record"]

RECORD = "comparison.json"


class _Hardware(BaseModel):
    cpu: str
    cores: int
    memory_gib: float | None
    gpus: list[str]
    system: str


class _Record(BaseModel):
    """Fields that a page needs; a record also contains the names of what was compared."""

    command: str
    versions: dict[str, str | None]
    hardware: _Hardware


def command_line(options: Mapping[str, Any]) -> str:
    """Return the command that gives a comparison these options.

    Parameters
    ----------
    options : mapping
        Option to value; a sequence stands for an option that is repeated, None and an empty sequence for none. Of an
        absolute path only the last part is shown.
    """
    words = ["dgl-rbm", "compare"]
    for name, value in options.items():
        several = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        for one in several:
            if isinstance(one, Path):
                one = one.name if one.is_absolute() else one.as_posix()
            words += [f"--{name}", str(one)]
    return shlex.join(words)


def write_record(out: Path, command: str, names: Mapping[str, Sequence[str]], *, is_new: bool = True) -> None:
    """Write ``comparison.json``.

    Parameters
    ----------
    out : Path
        The comparison's folder.
    command : str
    names : mapping
        What was compared, such as the methods' names.
    is_new : bool
        Whether anything is to be run. Otherwise versions and machine stay those by which it was.
    """
    origin = {"versions": versions(), "hardware": hardware()}
    if not is_new:
        try:
            kept = read_record(out)
        except ArtifactError:
            kept = {}
        origin |= {name: kept[name] for name in origin if name in kept}
    content = {"command": command, **names, **origin}
    write_atomic(out / RECORD, json.dumps(content, indent=2) + "\n")


def read_record(out: Path) -> dict[str, Any]:
    """Read ``comparison.json``; a folder without one has an empty record.

    Raises
    ------
    ArtifactError
        If there is one and it cannot be read.
    """
    path = out / RECORD
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _Record.model_validate(record)
    except ValidationError as error:
        wrong = ", ".join(" -> ".join(map(str, detail["loc"])) or "all of it" for detail in error.errors())
        raise ArtifactError(
            f"'{path}' is no record of a comparison; missing or wrong: {wrong}.",
            hint="`dgl-rbm compare` writes it; without one the page says nothing of command and machine.",
        ) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"'{path}' cannot be read: {error}.") from None
    return record

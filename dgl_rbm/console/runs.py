"""Folders of runs: choosing one, and closing it."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from dgl_rbm.artifacts import is_finished
from dgl_rbm.errors import ConfigError
from dgl_rbm.result import DistillationResult
from dgl_rbm.run_config import DistillConfig

__all__ = ["choose_folder", "finish"]


def choose_folder(out: Path | None, config: DistillConfig, overwrite: bool) -> Path:
    """Return where a run goes; without `out`, the first folder under ``runs/`` that holds no finished one.

    Raises
    ------
    ConfigError
        Where `out` is a file, or holds a finished run and `overwrite` is False.
    """
    if out is None:
        stem = f"{_short(config)}-{config.teacher.kind}-{config.student.kind}"
        names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        return next(folder for name in names if not is_finished(folder := Path("runs") / name))
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; expected a folder, which is made where it does not exist.")
    if is_finished(out) and not overwrite:
        raise ConfigError(
            f"--out {out} holds a finished run.", hint="Name another folder, or replace the run with --overwrite."
        )
    return out


def _short(config: DistillConfig) -> str:
    dataset = config.dataset
    name = getattr(dataset, "name", None) or dataset.kind
    path = getattr(dataset, "path", None)
    return Path(path).stem if path else str(name)


def finish(result: DistillationResult, folder: Path) -> None:
    """Save a run and remove its checkpoints, which it no longer needs."""
    result.save(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)

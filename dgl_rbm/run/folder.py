"""Folders of runs: choose one before training, finish or abandon it afterwards."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import yaml

from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.errors import ConfigError, command
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.files import STARTED, is_finished
from dgl_rbm.run.run import Run
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.runtime.folders import check_folder

__all__ = ["abandon", "choose_folder", "finish"]


def choose_folder(out: Path | None, config: DistillConfig, overwrite: bool) -> Path:
    """Return the folder of a run; without `out`, the first one under ``runs/`` without a finished run.

    Raises
    ------
    ConfigError
        If `out` is a file or cannot be written to, or contains a finished run, or a stopped run of other options, and
        `overwrite` is False.
    """
    marker = yaml.safe_dump(config.located().to_values(), sort_keys=False, allow_unicode=True)
    if out is None:
        graph = config.dataset.graph_name if isinstance(config.dataset, DatasetConfig) else config.dataset.kind
        stem = f"{graph}-{config.teacher.kind}-{config.student.kind}"
        names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        out = next(folder for name in names if _is_free(folder := Path("runs") / name, marker))
    else:
        check_folder(out, "--out")
        if is_finished(out) and not overwrite:
            raise ConfigError(
                f"--out {out} holds a finished run.", hint="Name another folder, or replace the run with --overwrite."
            )
        if not overwrite and (out / STARTED).is_file() and (out / STARTED).read_text(encoding="utf-8") != marker:
            raise ConfigError(
                f"--out {out} holds a stopped run of other options.",
                hint=f"Continue it with `{command('distill', '--config', out / STARTED, '--out', out)}`, name another "
                "folder, or replace the run with --overwrite.",
            )
    try:
        # Fail before hours of training, not after.
        write_atomic(out / STARTED, marker)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written to: {error.strerror}.") from None
    return out


def _is_free(folder: Path, marker: str) -> bool:
    """Whether `folder` is free for a run: it contains none, or a stopped one of the same configuration."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        started = folder / STARTED
        return not is_finished(folder) and started.is_file() and started.read_text(encoding="utf-8") == marker
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be made: {error.strerror}.", hint="Name one with --out."
        ) from None
    return True


def abandon(folder: Path) -> None:
    """Remove the folder of a run that failed before it had anything to keep."""
    if {path.name for path in folder.iterdir()} == {STARTED}:
        shutil.rmtree(folder)
        if folder.parent == Path("runs") and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def finish(run: Run, folder: Path) -> None:
    """Save a run and remove its checkpoints."""
    run.save(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / STARTED).unlink(missing_ok=True)

"""Folders of runs: claim one before training, finish or abandon it afterwards."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.errors import ConfigError, command
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.files import OPTIONS, STARTED, is_finished, options_text
from dgl_rbm.run.run import Run
from dgl_rbm.runtime.checkpoint import remove_temporary_files, write_atomic
from dgl_rbm.runtime.folders import check_folder
from dgl_rbm.runtime.locks import locked

__all__ = ["RunFolder", "claimed_folder"]

_LOCK = ".lock"
# First line of the configuration of a run that failed.
_FAILED = b"# This run failed. A run of other options may take its place.\n"


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run, which no other process uses.

    Attributes
    ----------
    path : Path
    config : DistillConfig
        Options of the run, before validation chooses components.
    is_done : bool
        Whether the folder contains the finished run of these options already.
    """

    path: Path
    config: DistillConfig
    is_done: bool = False

    def finish(self, run: Run) -> None:
        """Save a run and remove its checkpoints."""
        run.save(self.path, options=self.config)
        self.clean()

    def finished_run(self) -> Run:
        """Read the finished run, and remove checkpoints that a killed process left.

        Raises
        ------
        ArtifactError
            If the run is damaged.
        """
        run = Run.load(self.path)
        self.clean()
        return run

    def clean(self) -> None:
        """Remove everything that a finished run no longer needs."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        (self.path / STARTED).unlink(missing_ok=True)

    def abandon(self) -> bool:
        """Let runs of other options take the place of a failed one; return whether checkpoints of it are kept.

        If there are none, everything that the run has written is removed.
        """
        if _has_checkpoints(self.path):
            try:
                write_atomic(self.path / STARTED, _FAILED + _options(self.config))
            except OSError:
                (self.path / STARTED).unlink(missing_ok=True)
            return True
        self.clean()
        if all(path.name.startswith(".") for path in self.path.iterdir()):
            shutil.rmtree(self.path, ignore_errors=True)
            if self.path.parent == Path("runs") and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()
        return False


@contextmanager
def claimed_folder(out: Path | None, config: DistillConfig, overwrite: bool) -> Iterator[RunFolder]:
    """Claim the folder of a run within the ``with`` block; without `out`, the first free one under ``runs/``.

    Temporary files of killed processes are removed.

    Raises
    ------
    ConfigError
        If `out` is a file or cannot be written to, if a run is under way in it, or if it contains a run of other
        options, finished or stopped, and `overwrite` is False.
    """
    options = _options(config)
    with ExitStack() as claim:
        if out is None:
            folder = RunFolder(_first_free(claim, config, options), config)
        else:
            check_folder(out, "--out")
            if not _claim(claim, out):
                raise ConfigError(
                    f"--out {out}: a run is under way in this folder, in another process.",
                    hint="Wait for its end, or name another folder.",
                )
            if not overwrite:
                _check_options(out, options)
            folder = RunFolder(out, config)
        if is_finished(folder.path) and not overwrite:
            yield RunFolder(folder.path, config, is_done=True)
            return
        try:
            # Fail before hours of training, not after.
            write_atomic(folder.path / STARTED, options)
        except OSError as error:
            folder.abandon()
            raise _unwritable(folder.path, error) from None
        yield folder


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--out {folder} cannot be written to: {error.strerror}.", hint="Name another folder.")


def _options(config: DistillConfig) -> bytes:
    return options_text(config.located().to_values()).encode()


def _check_options(out: Path, options: bytes) -> None:
    if is_finished(out):
        if _read(out / OPTIONS) != options:
            raise ConfigError(
                f"--out {out} holds a finished run of other options.",
                hint="Name another folder, or replace the run with --overwrite.",
            )
    elif not _may_start(out, options):
        raise ConfigError(
            f"--out {out} holds a stopped run of other options.",
            hint=f"Continue it with `{command('distill', '--config', out / STARTED, '--out', out)}`, name another "
            "folder, or replace the run with --overwrite.",
        )


def _may_start(folder: Path, options: bytes) -> bool:
    """Whether a run of these options loses nothing of the unfinished run in `folder`."""
    started = _read(folder / STARTED)
    return started in (None, options) or started.startswith(_FAILED) or not _has_checkpoints(folder)


def _first_free(claim: ExitStack, config: DistillConfig, options: bytes) -> Path:
    """Claim the first folder under ``runs/`` that is new or contains an unfinished run of these options."""
    graph = config.dataset.graph_name if isinstance(config.dataset, DatasetConfig) else config.dataset.kind
    stem = f"{graph}-{config.teacher.kind}-{config.student.kind}"
    for name in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2))):
        folder = Path("runs") / name
        if not _is_free(folder, options):
            continue
        attempt = ExitStack()
        if _claim(attempt, folder) and _is_free(folder, options):
            claim.push(attempt)
            return folder
        attempt.close()
    raise AssertionError("there are always more names")


def _is_free(folder: Path, options: bytes) -> bool:
    """Whether `folder` is missing or empty, or contains a run of these options that was not finished to the end."""
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return True
    except OSError:
        return False
    started = (_read(folder / STARTED) or b"").removeprefix(_FAILED)
    return not names or (started == options and (not is_finished(folder) or _read(folder / OPTIONS) == options))


def _claim(claim: ExitStack, folder: Path) -> bool:
    """Create `folder` if it is missing and lock it; return False if another process has locked it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if claim.enter_context(locked(folder / _LOCK, wait=False, remove=True)):
            remove_temporary_files(folder)
    except BlockingIOError:
        return False
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        raise _unwritable(folder, error) from None
    return True


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _has_checkpoints(folder: Path) -> bool:
    return any((folder / "checkpoints").rglob("*.safetensors"))

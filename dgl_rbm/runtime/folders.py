"""Checks and creation of output folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ConfigError, shown

__all__ = ["as_path", "check_folder", "check_place", "make_folder"]


def as_path(value: Any, option: str) -> Path:
    """Return the path that an argument names.

    Raises
    ------
    ConfigError
        If it is neither text nor a path, or no file can have that name.
    """
    if not isinstance(value, (str, Path)) or not str(value):
        raise ConfigError(f"{option} is {shown(value)}; expected a path.")
    try:
        os.lstat(value)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{option} is {shown(value)}, which is no name of a file: {reason}.") from None
    return Path(value)


def check_folder(folder: Path, option: str) -> None:
    """Check, without creating anything, that `folder` is a writable folder or can be created as one.

    Raises
    ------
    ConfigError
        If it cannot be written to; names the option.
    """
    # Unlike the methods of `Path`, these functions do not raise for names that are too long.
    if os.path.isfile(folder):
        raise ConfigError(f"{option} {folder} is a file; expected a folder, which is created if it does not exist.")
    check_place(folder, f"{option} {folder}")


def check_place(folder: Path, what: str) -> None:
    """Check, without creating anything, that files can be written to `folder` or to its nearest existing parent.

    Raises
    ------
    ConfigError
        If they cannot; the message starts with `what`.
    """
    place = folder.absolute()
    there = next(path for path in (place, *place.parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise ConfigError(f"{what} cannot be written to: '{there}' is not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{what} cannot be written to: no permission.")


def make_folder(folder: Path, option: str) -> None:
    """Create the folder if it does not exist.

    Raises
    ------
    ConfigError
        If it cannot be created or written to; names the option.
    """
    check_folder(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {folder} cannot be written to: {error.strerror}.") from None

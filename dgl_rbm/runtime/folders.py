"""Folders that options name."""

from __future__ import annotations

import os
from pathlib import Path

from dgl_rbm.errors import ConfigError

__all__ = ["check_folder", "check_place", "make_folder"]


def check_folder(folder: Path, option: str) -> None:
    """Make nothing, and see whether the folder is there, or can be made, and can be written to.

    Raises
    ------
    ConfigError
        Naming the option, where it cannot.
    """
    # Unlike the methods of `Path`, these functions pass over names that are too long.
    if os.path.isfile(folder):
        raise ConfigError(f"{option} {folder} is a file; expected a folder, which is made where it does not exist.")
    check_place(folder, f"{option} {folder}")


def check_place(folder: Path, what: str) -> None:
    """Make nothing, and see whether something can be written to the folder, or to one that is made there.

    Raises
    ------
    ConfigError
        Saying that `what` cannot be written to.
    """
    place = folder.absolute()
    there = next(path for path in (place, *place.parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise ConfigError(f"{what} cannot be written to: '{there}' is no folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{what} cannot be written to: no permission.")


def make_folder(folder: Path, option: str) -> None:
    """Make the folder, where it is not there yet.

    Raises
    ------
    ConfigError
        Naming the option, where it cannot be made or written to.
    """
    check_folder(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {folder} cannot be written to: {error.strerror}.") from None

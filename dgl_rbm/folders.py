"""Folders that options name."""

from __future__ import annotations

import os
from pathlib import Path

from dgl_rbm.errors import ConfigError

__all__ = ["make_folder"]


def make_folder(folder: Path, option: str) -> None:
    """Make the folder, where it is not there yet.

    Raises
    ------
    ConfigError
        Naming the option, where it cannot be made or written to.
    """
    # Unlike `Path.is_file`, it passes over names that are too long.
    if os.path.isfile(folder):
        raise ConfigError(f"{option} {folder} is a file; expected a folder, which is made where it does not exist.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {folder} cannot be written to: {error.strerror}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{option} {folder} cannot be written to: no permission.")

"""Versions of what a run depends on, for `metrics.json` and `dgl-rbm doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from dgl_rbm._version import __version__

__all__ = ["PACKAGES", "versions"]

PACKAGES = (
    "torch",
    "dgl",
    "numpy",
    "scipy",
    "scikit-learn",
    "ogb",
    "pydantic",
    "typer",
    "rich",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and its main dependencies; absent ones are left out."""
    found = {"python": platform.python_version(), "dgl-rbm": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

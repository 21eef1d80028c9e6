"""A spinner while libraries that take seconds to import are loaded."""

from __future__ import annotations

import contextlib
import importlib
import sys

from rich.console import Console

__all__ = ["DGL", "TORCH", "show_loading"]

TORCH = "torch"
DGL = "dgl_rbm.data.dgl_compat"
_NAMES = {TORCH: "PyTorch", DGL: "DGL"}


def show_loading(console: Console, *modules: str) -> None:
    """Import modules with a spinner if `console` is a terminal; the commands import them anyway.

    Parameters
    ----------
    console : Console
        Of standard error, so that results stay alone in a pipe.
    *modules : str
        `TORCH`, `DGL` or both, in this order.
    """
    missing = [module for module in modules if module not in sys.modules]
    if not missing or not console.is_terminal:
        return
    with console.status(f"Loading {' and '.join(_NAMES[module] for module in missing)} …"):
        for module in missing:
            # Whoever needs it explains the error.
            with contextlib.suppress(Exception):
                importlib.import_module(module)

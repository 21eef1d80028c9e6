"""Warnings of this package as notes on the screen, each once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from dgl_rbm.errors import DglRbmWarning

__all__ = ["print_note", "warnings_as_notes"]


def print_note(console: Console, text: str) -> None:
    """Print a note."""
    console.print(Text(f"Note: {text}"), soft_wrap=True)


@contextmanager
def warnings_as_notes(console: Console) -> Iterator[None]:
    """Print each warning of this package once, as a note, and no warning of the libraries below it."""
    printed: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        text = str(message)
        if issubclass(category, DglRbmWarning) and text not in printed:
            printed.add(text)
            print_note(console, text)

    with warnings.catch_warnings():
        # Python itself shows a warning once per line of code, whatever it is about.
        warnings.simplefilter("always", DglRbmWarning)
        warnings.showwarning = show
        yield

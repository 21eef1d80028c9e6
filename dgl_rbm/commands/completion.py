"""Shell completion of component names and run folders; imports neither torch nor DGL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dgl_rbm.methods.catalogue import method_names
from dgl_rbm.registry import REGISTRIES

__all__ = ["complete_component", "complete_kind", "complete_method", "complete_run", "names_of"]


def names_of(kind: str, separator: str = "") -> Callable[[str], list[str]]:
    """Return a completion of the components of a kind.

    Parameters
    ----------
    kind : str
        Such as ``"teacher"``.
    separator : str
        Between several names in one option, such as ``"+"``.
    """

    def complete(incomplete: str) -> list[str]:
        before, found, last = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        return [before + found + name for name in REGISTRIES[kind].names() if name.startswith(last)]

    return complete


def complete_method(incomplete: str) -> list[str]:
    """Return the published methods that begin so."""
    return [name for name in method_names() if name.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of components, and all components, that begin so."""
    names = ["method", *REGISTRIES, *(name for registry in REGISTRIES.values() for name in registry.names())]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def complete_component(incomplete: str) -> list[str]:
    """Return the components of all kinds that begin so."""
    names = [name for registry in REGISTRIES.values() for name in registry.names()]
    return [name for name in dict.fromkeys([*names, *method_names()]) if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Return the folders of finished runs that begin so, among them those under ``runs/``."""
    typed = Path(incomplete)
    places = [typed if incomplete.endswith("/") else typed.parent, Path("runs")]
    found: list[str] = []
    for place in places:
        try:
            found += [str(path.parent) for path in sorted(place.glob("*/metrics.json"))]
        except OSError:
            continue
    return [name for name in dict.fromkeys(found) if name.startswith(incomplete.removeprefix("./"))]

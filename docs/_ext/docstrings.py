"""Sphinx extension that adapts docstrings, so that they need no Sphinx markup.

``dgl_rbm.NodeTask`` and ``NodeTask`` become links to the definition of the class; "C." as the whole description of a
parameter stays text; the long signatures of config classes are omitted.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def _defined_at(target: str) -> str | None:
    """Return the full name under which an exported object is defined."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        return f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError, ValueError):
        return None


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, content: nodes.TextElement) -> nodes.Element | None:
    """Resolve a name that the Python domain could not: an exported name, or a short one if only one object has it."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    target = node["reftarget"]
    known = domain.objects  # type: ignore[attr-defined]
    candidates = [_defined_at(target)] if target.startswith("dgl_rbm.") else []
    if "." not in target and target.isidentifier():
        matches = [name for name in known if name.endswith(f".{target}")]
        # A method of the same name as a class elsewhere would be a guess.
        candidates += matches if len(matches) == 1 and target[0].isupper() else []
    for name in candidates:
        if name in known:
            node["reftarget"] = name
            return domain.resolve_xref(env, node["refdoc"], app.builder, known[name].objtype, name, node, content)
    return None


def without_fields(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Omit the fields from a config's signature; the configuration reference describes each of them."""
    return ("", None) if what == "class" and isinstance(obj, type) and issubclass(obj, BaseModel) else None


def keep_single_letters(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape lines such as "C.", which would start a list."""
    lines[:] = [re.sub(r"^(\s*)([A-Za-z]\.)$", r"\1\\\2", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", without_fields)
    # Before napoleon, which has the default priority, turns these lines into fields.
    app.connect("autodoc-process-docstring", keep_single_letters, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

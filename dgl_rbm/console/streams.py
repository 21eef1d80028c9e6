"""Standard streams that take every character, whatever their encoding."""

from __future__ import annotations

import codecs
import sys

__all__ = ["printable_everywhere"]

_HANDLER = "dgl_rbm.plain"
_PLAIN = {
    "−": "-",
    "–": "-",
    "→": "->",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "×": "x",
    "·": "*",
    "±": "+-",
    "µ": "u",
    "Δ": "delta",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "λ": "lambda",
    "ε": "epsilon",
    "τ": "tau",
    "✓": "*",
    "⁶³": "^63",
}


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by plain ones, and unknown ones by their escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    for sign, plain in _PLAIN.items():
        text = text.replace(sign, plain)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def printable_everywhere() -> None:
    """Let standard output and error replace characters that the terminal's encoding lacks instead of raising."""
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        if hasattr(stream, "reconfigure"):
            # Halves of surrogate pairs are all that UTF-8 lacks.
            stream.reconfigure(errors="backslashreplace" if encoding == "utf8" else _HANDLER)

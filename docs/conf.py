"""Sphinx configuration; the build uses this tree only, without the network."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE / "_ext"), str(_HERE.parent)]

from dgl_rbm import __version__  # noqa: E402

project = "dgl-rbm"
author = "The dgl-rbm developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "generated_reference",
    "docstrings",
]
exclude_patterns = ["_build", "_ext"]
# "--set" is an option, not a dash.
smartquotes = False
html_theme = "furo"
html_title = f"dgl-rbm {__version__}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
# $ also precedes commands in console blocks.
myst_dmath_allow_digits = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Single backquotes in docstrings mark names; names of this package become links.
default_role = "py:obj"
# Names of this package must resolve. Those of other projects cannot: their inventories need the network.
nitpicky = True
# Private bases are not documented, nor are type variables.
nitpick_ignore_regex = [("py:.*", r"(?!dgl_rbm\.).*"), ("py:.*", r"dgl_rbm(\.\w+)+\.([A-Z]|_\w+)")]

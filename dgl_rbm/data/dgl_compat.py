"""Import of DGL beside any supported torch; every other module writes ``from dgl_rbm.data.dgl_compat import dgl``.

DGL 2.1.0, the newest wheel on the Python package index, ships GraphBolt binaries for a few releases of
torch (2.0.0 to 2.2.1) and fails to import beside any other (dmlc/dgl issues 7157, 7247, 7822 and 7835),
although only `dgl.graphbolt` itself, and `dgl.distributed`, which is imported on demand, need the binary. If
the matching binary or the `torchdata` it was written for is missing, this module replaces `dgl.graphbolt` by a
stand-in before it imports DGL; any use of the stand-in raises a clear error.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dgl_rbm.data.sampling_thread import SamplingThread
from dgl_rbm.errors import MissingDependencyError
from dgl_rbm.runtime.process_state import before_dgl_is_seeded

__all__ = ["DglBuild", "describe_build", "dgl", "sampling_thread", "without_update_check"]

# Otherwise DGL writes a file to the home directory and prints two lines about its choice of backend.
os.environ.setdefault("DGLBACKEND", "pytorch")


class _GraphBoltStandIn(types.ModuleType):
    """Replacement of `dgl.graphbolt` if its binary cannot be loaded."""

    def __init__(self, why: str) -> None:
        super().__init__("dgl.graphbolt", f"Stand-in: {why}")
        self.__path__: list[str] = []
        self.why = why

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise MissingDependencyError(
            f"dgl.graphbolt.{name} was used, but GraphBolt cannot be loaded here: {self.why}",
            hint="Use dgl.dataloading instead, or a DGL build made for this torch; see `dgl-rbm doctor`.",
        )


@dataclass(frozen=True)
class DglBuild:
    """Version and capabilities of the DGL installation."""

    version: str
    cuda: bool
    graphbolt: bool
    graphbolt_reason: str


def _graphbolt_obstacle() -> str | None:
    """Return why GraphBolt cannot be imported, or None if it can."""
    spec = importlib.util.find_spec("dgl")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError("DGL is not installed.", hint="Install it with `pip install 'dgl>=2.1'`.")
    folder = Path(next(iter(spec.submodule_search_locations))) / "graphbolt"
    version = torch.__version__.split("+", maxsplit=1)[0]
    pattern = {"darwin": "lib{}.dylib", "win32": "{}.dll"}.get(sys.platform, "lib{}.so")
    binary = folder / pattern.format(f"graphbolt_pytorch_{version}")
    if not binary.exists():
        made_for = sorted(path.stem.rsplit("_", 1)[-1] for path in folder.glob("*graphbolt_pytorch_*"))
        return f"this DGL has GraphBolt binaries for torch {', '.join(made_for) or '(none)'}, not for torch {version}."
    # Only DGL before 2.3 uses the data pipes, which torchdata removed in 0.10.
    uses_datapipes = "torchdata" in (folder / "base.py").read_text(encoding="utf-8")
    if uses_datapipes and not _can_find("torchdata.datapipes"):
        return "this DGL needs torchdata.datapipes, which torchdata 0.10 removed: install 'torchdata<0.10'."
    return None


def _can_find(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _install_stand_in() -> None:
    why = None if "dgl" in sys.modules else _graphbolt_obstacle()
    if why is not None:
        sys.modules["dgl.graphbolt"] = _GraphBoltStandIn(why)


@contextmanager
def without_update_check() -> Iterator[None]:
    """Disable the update check that `ogb`, which DGL imports too, runs at import.

    Its request has no timeout and runs on a thread, so that a dead network delays the exit of the process.
    """
    hidden = sys.modules.get("outdated")
    variable = os.environ.get("OUTDATED_IGNORE")
    # None makes `import outdated` fail, as if it were not installed.
    sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["outdated"]
        if hidden is not None:
            sys.modules["outdated"] = hidden
        if variable is None:
            os.environ.pop("OUTDATED_IGNORE", None)


_install_stand_in()

with without_update_check():
    import dgl

sampling_thread = SamplingThread(dgl.seed)
before_dgl_is_seeded.append(sampling_thread.start)


def describe_build() -> DglBuild:
    """Return the version of DGL and the capabilities of this build."""
    stand_in = sys.modules.get("dgl.graphbolt")
    reason = stand_in.why if isinstance(stand_in, _GraphBoltStandIn) else ""
    return DglBuild(
        version=dgl.__version__,
        cuda=_built_with_cuda(),
        graphbolt=stand_in is not None and not reason,
        graphbolt_reason=reason,
    )


def _built_with_cuda() -> bool:
    """Whether DGL itself, not only torch, can place a graph on a GPU."""
    if not torch.cuda.is_available():
        return False
    try:
        dgl.graph(([0], [0])).to("cuda")
    except Exception:
        # A CPU-only build raises DGLError, whose class differs between releases.
        return False
    return True

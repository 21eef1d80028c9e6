"""Software versions and hardware, recorded with runs, comparisons and benchmarks."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dgl_rbm._version import __version__

__all__ = ["PACKAGES", "hardware", "memory_bytes", "versions"]

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
    """Return the versions of Python, this package and its main dependencies; missing ones are omitted."""
    found = {"python": platform.python_version(), "dgl-rbm": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return the CPU's name, the cores available to this process, the memory in GiB, and the GPUs that torch sees."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "cores": _cores(), "memory_gib": _memory(), "gpus": gpus, "system": platform.system()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the size of this machine's memory, None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _memory() -> float | None:
    size = memory_bytes()
    return None if size is None else round(size / 2**30, 1)

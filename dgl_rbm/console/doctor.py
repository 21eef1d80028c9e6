"""Findings of `dgl-rbm doctor`: versions, devices, DGL build and data folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dgl_rbm.errors import MissingDependencyError
from dgl_rbm.precision import FIRST_BF16_CAPABILITY
from dgl_rbm.runtime.environment import versions

__all__ = ["Finding", "examine"]

_PACKAGE = "dgl-rbm"
# The extras themselves are read from the metadata.
_USES = {
    "parquet": "Parquet files.",
    "plot": "Figures.",
    "tune": "`dgl-rbm tune`.",
    "bench": "Comparisons of speed under benchmarks/.",
    "test": "The test suite.",
    "docs": "The documentation.",
    "dev": "Development.",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    subject, value : str
        The thing examined and its state.
    meaning : str
        Consequence for the user.
    ok : bool
        False if a part of the package cannot work.
    """

    subject: str
    value: str
    meaning: str = ""
    ok: bool = True


def examine() -> Iterator[Finding]:
    """Yield the findings, from versions to data."""
    for name, found in versions().items():
        yield Finding(name, found)
    yield from _torch_findings()
    yield from _dgl_findings()
    yield from _extra_findings()
    folder = os.environ.get("DGL_RBM_DATA")
    if folder is None:
        yield Finding(
            "DGL_RBM_DATA", "not set", "Datasets other than digits and synthetic are downloaded on first use."
        )
    else:
        there = Path(folder).is_dir()
        yield Finding(
            "DGL_RBM_DATA",
            folder,
            "Datasets are searched for here first." if there else "This folder does not exist.",
            there,
        )


def _extra_findings() -> Iterator[Finding]:
    """Yield a finding for each extra of this package, with the packages that are there or missing."""
    for extra, packages in _extras().items():
        there, missing = [], []
        for package in packages:
            try:
                there.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                missing.append(package)
        if not missing:
            yield Finding(f"extra {extra}", ", ".join(there), _USES.get(extra, ""))
            continue
        meaning = f"{use} " if (use := _USES.get(extra)) else ""
        meaning += f"Install with: pip install 'dgl-rbm[{extra}]'"
        absent = f"missing: {', '.join(missing)}"
        yield Finding(f"extra {extra}", f"{absent}; installed: {', '.join(there)}" if there else absent, meaning)


def _extras() -> dict[str, list[str]]:
    """Return the packages of each extra as the package's metadata declares them; extras of extras are expanded."""
    try:
        names = distribution(_PACKAGE).metadata.get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    declared: dict[str, list[Requirement]] = {name: [] for name in names}
    for requirement in map(Requirement, requires(_PACKAGE) or []):
        for extra in declared:
            if requirement.marker is not None and _is_of_extra(requirement, extra):
                declared[extra].append(requirement)

    def packages(extra: str) -> list[str]:
        found: list[str] = []
        for requirement in declared[extra]:
            inner = [part for name in sorted(requirement.extras) for part in packages(name)]
            found += inner if canonicalize_name(requirement.name) == _PACKAGE else [requirement.name]
        return list(dict.fromkeys(found))

    return {extra: packages(extra) for extra in declared}


def _is_of_extra(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _torch_findings() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        fast = torch.cuda.get_device_capability() >= FIRST_BF16_CAPABILITY
        meaning = f"Students train on the GPU, with precision float32{' or bf16' if fast else ''}."
        yield Finding("CUDA", f"{torch.version.cuda}, {torch.cuda.get_device_name()}", meaning)
    else:
        built = f"torch built for CUDA {torch.version.cuda}, no GPU seen" if torch.version.cuda else "torch for CPU"
        yield Finding("CUDA", built, "Everything runs on the CPU.")
    yield Finding(
        "threads", str(torch.get_num_threads()), "On the CPU results are bit-reproducible for one number of threads."
    )


def _where(torch_cuda: bool, dgl_cuda: bool) -> str:
    """Return the device of teachers, given the CUDA support of torch and DGL."""
    if not torch_cuda:
        return "Graphs are sampled and teachers trained on the CPU."
    if dgl_cuda:
        return "Graphs are sampled and teachers trained on the GPU."
    return (
        "Graphs are sampled on the CPU; sage and gcn are trained on the GPU through torch, modules that use DGL's own "
        "layers on the CPU."
    )


def _dgl_findings() -> Iterator[Finding]:
    try:
        from dgl_rbm.data.dgl_compat import describe_build
    except (MissingDependencyError, ImportError, OSError) as error:
        yield Finding("DGL build", "cannot be imported", f"Saved students still predict. {error}", ok=False)
        return
    build = describe_build()
    import torch

    yield Finding("DGL build", "CUDA" if build.cuda else "CPU only", _where(torch.cuda.is_available(), build.cuda))
    if build.graphbolt:
        yield Finding("GraphBolt", "loaded", "dgl.graphbolt can be used beside this package.")
    else:
        yield Finding(
            "GraphBolt", "absent", f"Not needed here; dgl.graphbolt raises an error: {build.graphbolt_reason}"
        )

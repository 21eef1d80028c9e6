"""Repeat archived runs and compare all scores exactly with the archive or with another checkout.

Use it to test refactorings that must not change numbers. Scores depend on the instruction set of the CPU and on the
number of threads (1 here). On a machine other than the archive's, compare two checkouts:

    python benchmarks/referee.py --keep before.json       # in the old checkout
    python benchmarks/referee.py --against before.json    # in the new one

``DGL_RBM_DATA`` is the folder of the graphs; the archive is ``results/comparison/cells.tar.xz``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from dgl_rbm import Distiller
from dgl_rbm.run.config import resolve_config

ARCHIVE = Path(__file__).parent / "results" / "comparison" / "cells.tar.xz"
# These cells cover all losses (KRD, pseudo-labels, edge consistency, similarity, adversarial), routing, several
# teachers, and the selection of an encoder.
DEFAULT = (
    *(f"{method}-{graph}-*-0-*" for graph in ("cpf-cora", "amazon-photo") for method in ("krd", "cohop", "rbm")),
    "nosmog-cpf-cora-*-0-*",
    "rbm-multi-cpf-cora-*-0-*",
)
# The regularizer's entry is its name and its time; archived names lack the losses that were no regularizers then.
MEASURED = ("seconds", "latency", "versions", "regularizer")


def archived(patterns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the archived cells whose file names match one of the patterns."""
    with tarfile.open(ARCHIVE) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if any(fnmatch(Path(member.name).name, pattern) for pattern in patterns):
                content = archive.extractfile(member)
                assert content is not None
                yield json.load(content)


def as_archived(config: Any) -> Any:
    """Return a configuration with what was fixed when the archive was made, and has become an option."""
    if isinstance(config, list):
        return [as_archived(part) for part in config]
    if not isinstance(config, dict):
        return config
    fixed: dict[str, Any] = {}
    if "weight_decay" in config:
        fixed["optimizer"] = "adam"
    if "judge" in config:
        fixed["judge_steps"] = 10_000
    return fixed | {name: as_archived(value) for name, value in config.items()}


def scores(metrics: Any) -> Any:
    """Return the metrics without those that differ between identical runs."""
    if isinstance(metrics, dict):
        return {name: scores(value) for name, value in metrics.items() if name not in MEASURED}
    return metrics


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each changed value; values missing in `before` are ignored."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name, value in before.items():
            yield from differences(value, now.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (left, right) in enumerate(zip(before, now, strict=True)):
            yield from differences(left, right, f"{path}[{i}]")
    elif before != now:
        yield f"{path}: {before} -> {now}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=DEFAULT, help="file names of cells, with wildcards")
    parser.add_argument("--keep", type=Path, help="write the metrics to this file")
    parser.add_argument("--against", type=Path, help="compare with this file instead of the archive")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reference = {} if arguments.against is None else json.loads(arguments.against.read_text())
    kept: dict[str, Any] = {}
    failed = 0
    for cell in archived(tuple(arguments.patterns)):
        result = Distiller.from_config(resolve_config(as_archived(cell["config"]))).fit(latency_of=())
        metrics = kept[cell["title"]] = scores(result.metrics.to_values())
        before = scores(reference.get(cell["title"]) if arguments.against else cell["metrics"])
        found = ["not in the reference"] if before is None else list(differences(before, metrics))
        print(f"{cell['title']}: {'equal' if not found else 'DIFFERENT'}", *found, sep="\n  ", flush=True)
        failed += bool(found)
    if arguments.keep is not None:
        arguments.keep.write_text(json.dumps(kept, indent=1))
    print(f"{len(kept)} cells, {failed} different")
    return 1 if failed or not kept else 0


if __name__ == "__main__":
    sys.exit(main())

"""Flip single bits and zero pages in every file of a run, of checkpoints and of shared parts.

A change counts as found if reading the run ends in an `ArtifactError` or, for a checkpoint, a shared part and files for
people, in an `ArtifactWarning`, and the message contains the name of the file. Prints a table, and exits with 1 if a
change was missed.

    python benchmarks/damaged_runs.py --flips 2000 --pages 200
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dgl_rbm import Callback, Distiller, Run
from dgl_rbm.errors import ArtifactError, ArtifactWarning
from dgl_rbm.runtime.checkpoint import CheckpointStore, read_state

DATASET = {"kind": "synthetic", "num_nodes": 1000}
OPTIONS: dict[str, Any] = {"student": "rbm", "training": {"epochs": 4}, "device": "cpu"}
_PAGE = 4096


class _Stop(Callback):
    """Interrupt a run in its last stage, so that its checkpoints remain."""

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        if stage == "latency":
            raise KeyboardInterrupt


def files_of_runs(folder: Path) -> list[tuple[str, Path, Callable[[Path], Any]]]:
    """Make a run, checkpoints and shared parts; return the kind of each file, its path, and what reads it."""
    fitted = Distiller(**OPTIONS).fit(DATASET, shared=folder / "shared")
    run = fitted.save(folder / "run", options=fitted.config)
    with suppress(KeyboardInterrupt):
        Distiller(**OPTIONS, callbacks=[_Stop()]).fit(DATASET, out=folder / "stopped")
    found: list[tuple[str, Path, Callable[[Path], Any]]] = []
    found += [("run", path, lambda path: Run.load(run)) for path in sorted(run.iterdir())]
    for kind, place in (("checkpoint", "stopped"), ("shared part", "shared")):
        found += [(kind, path, reader_of(path)) for path in sorted((folder / place).rglob("*.safetensors"))]
    return found


def reader_of(path: Path) -> Callable[[Path], Any]:
    """Return a function that loads an undamaged checkpoint as a run does."""
    store = CheckpointStore(path.parent, read_state(path)[1]["fingerprint"])

    def read(path: Path) -> None:
        if store.load(path.stem) is not None:
            raise AssertionError(f"'{path}' was read")

    return read


def is_found(path: Path, read: Callable[[Path], Any]) -> bool:
    """Whether reading ends in an error or a warning of ours that names the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read(path)
        except ArtifactError as error:
            return path.name in error.message
        except Exception as error:
            print(f"{path}: {error!r}", file=sys.stderr)
            return False
    return any(issubclass(one.category, ArtifactWarning) and path.name in str(one.message) for one in caught)


def flipped(content: bytes, generator: random.Random) -> bytes:
    """Return `content` with one bit flipped."""
    place = generator.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]


def zeroed(content: bytes, generator: random.Random) -> bytes:
    """Return `content` with one page set to zero that is not zero already."""
    while True:
        start = _PAGE * generator.randrange(-(-len(content) // _PAGE))
        page = content[start : start + _PAGE]
        if any(page):
            return content[:start] + bytes(len(page)) + content[start + _PAGE :]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1500, help="over all files, at least")
    parser.add_argument("--pages", type=int, default=150, help="over all files, at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator, missed = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        files = files_of_runs(Path(temporary))
        print("| kind | file | bytes | flipped bits found | zeroed pages found |\n|---|---|---|---|---|")
        for kind, path, read in files:
            content = path.read_bytes()
            counts = []
            for change, total in ((flipped, options.flips), (zeroed, options.pages)):
                count = -(-total // len(files))
                found = 0
                for _ in range(count):
                    path.write_bytes(change(content, generator))
                    found += is_found(path, read)
                counts.append(f"{found} of {count}")
                missed += count - found
            path.write_bytes(content)
            print(f"| {kind} | {path.name} | {len(content):,} | {' | '.join(counts)} |", flush=True)
    print(f"\n{missed} changes were missed.")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()

"""Kill `dgl-rbm distill` at random moments, and start the same command again until it ends with exit code 0.

Prints a table, and exits with 1 if a run ends otherwise or its files differ from those of an undisturbed run. Measured
times are not compared: ``seconds`` and ``latency`` in ``metrics.json``, the report, and the digests of these two files
in the manifest.

    python benchmarks/killed_runs.py --kills 50
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Long enough for kills in every stage: a routed student, pre-trained, with all parts that keep checkpoints.
OPTIONS = (
    "--dataset=synthetic",
    "--set=dataset.num_nodes=2000",
    "--set=teacher.training.epochs=40",
    "--set=teacher.training.patience=40",
    "--set=training.epochs=40",
    "--set=training.patience=40",
    "--encoder=diffusion",
    "--regularizer=krd",
    "--student=rbm",
    "--device=cpu",
)
_COMMAND = (sys.executable, "-m", "dgl_rbm.cli", "distill", *OPTIONS)
_MEASURED = ("seconds", "latency")
_MOST_STARTS = 100


def started(folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        (*_COMMAND, f"--out={folder}"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


def without_times(value: Any) -> Any:
    """Return nested values without measured times."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in _MEASURED}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Return everything in a run's folder that must not depend on kills, by file."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.json":
            found[name] = without_times(json.loads(path.read_text(encoding="utf-8")))
        elif path.name == "manifest.json":
            files = json.loads(path.read_text(encoding="utf-8"))["files"]
            found[name] = {key: entry for key, entry in files.items() if key not in ("metrics.json", "report.md")}
        elif path.name != "report.md" and path.is_file():
            found[name] = path.read_bytes()
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        begin = time.perf_counter()
        process = started(whole)
        if process.wait() != 0:
            sys.exit(f"the undisturbed run failed:\n{process.stderr.read().decode() if process.stderr else ''}")
        duration = time.perf_counter() - begin
        expected = contents(whole)
        kills, runs = 0, 0
        while kills < options.kills:
            folder, runs = Path(temporary) / f"run-{runs}", runs + 1
            for start in range(_MOST_STARTS):
                process = started(folder)
                # Up to the last moments, in which the run is saved and cleaned up; the sixth start is left alone.
                wait = generator.uniform(0.0, duration) if kills < options.kills and start < 5 else None
                begin = time.perf_counter()
                try:
                    code = process.wait(wait)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    continue
                duration = min(duration, time.perf_counter() - begin) if start == 0 else duration
                break
            if code != 0:
                outcomes[f"exit code {code}"] += 1
                print(process.stderr.read().decode() if process.stderr else "", file=sys.stderr)
            else:
                found = contents(folder)
                different = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
                outcomes[f"other files: {', '.join(sorted(different))}" if different else "same files"] += 1
            print(f"{kills} kills, {runs} runs: {dict(outcomes)}", file=sys.stderr, flush=True)
    print("| kills | runs | undisturbed run | outcome |\n|---|---|---|---|")
    for outcome, count in outcomes.items():
        print(f"| {kills} | {count} of {runs} | {duration:.1f} s | {outcome} |")
    sys.exit(set(outcomes) != {"same files"})


if __name__ == "__main__":
    main()

"""Pass generated bad inputs through every door of the package, and count what is not the package's own error.

A fault is an exception of another package, a result that is silently wrong, more than 10 seconds, or more than 1 GiB.
Prints a table, and exits with 1 if there is a fault. Damaged files of `dgl.save_graphs`, which have no checksum and can
end the process within DGL, are left out unless `--dgl-files` is given::

    python benchmarks/bad_inputs.py --examples 700
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "doors")]

from odd_values import outcome  # noqa: E402
from strategies import Door, doors  # noqa: E402

from dgl_rbm import DglRbmError  # noqa: E402

SECONDS, MEBIBYTES = 10, 1024


class TooSlow(BaseException):
    """An input took too long."""


def _stop(signum: int, frame: Any) -> None:
    raise TooSlow


def peak_mebibytes() -> float:
    """Return the largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def place_of(error: BaseException) -> str:
    """Return the last line of the package that an exception passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "dgl_rbm" in Path(frame.filename).parts]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside the package"


def apart(door: Door, value: Any) -> None:
    """Pass an input through a door in a forked process, and raise what is raised there."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        failure: Exception | None = None
        try:
            door.call(value)
        except DglRbmError as error:
            failure = DglRbmError(str(error))
        except Exception as error:
            failure = RuntimeError(f"{error!r} at {place_of(error)}")
        writer.send(failure)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        raise RuntimeError(f"the process was ended by signal {os.WTERMSIG(status)}")
    if (failure := reader.recv()) is not None:
        raise failure


def count(door: Door, examples: int, seed: int) -> tuple[Counter[str], dict[str, tuple[int, str]]]:
    """Return how many inputs had which outcome, and the faults: how often each was found, and an input."""
    found: Counter[str] = Counter()
    faults: dict[str, tuple[int, str]] = {}

    def add(kind: str, what: str, value: Any) -> None:
        found[kind] += 1
        times, example = faults.get(what, (0, ""))
        try:
            text = ascii(value)[:300]
        except Exception:
            text = f"a {type(value).__name__}"
        # The shortest input is the one to read.
        faults[what] = (times + 1, min(filter(None, (example, text)), key=len))

    def accepted(value: Any) -> bool:
        if door.apart:
            apart(door, value)
        else:
            door.call(value)
        return True

    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(door.inputs)
    def run(value: Any) -> None:
        before = peak_mebibytes()
        found["inputs"] += 1
        signal.alarm(SECONDS)
        try:
            found["accepted" if outcome(accepted, value) else "refused"] += 1
        except AssertionError as error:
            add("wrong", f"{error}", value)
        except TooSlow as error:
            add("costly", f"more than {SECONDS} s at {place_of(error)}", value)
        except Exception as error:
            add("foreign", f"{type(error).__name__} at {place_of(error)}: {ascii(str(error))[:80]}", value)
        finally:
            signal.alarm(0)
        if peak_mebibytes() - before > MEBIBYTES:
            add("costly", f"more than {MEBIBYTES} MiB", value)

    run()
    return found, faults


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=700, help="inputs of each door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", help="only this door")
    parser.add_argument(
        "--dgl-files",
        action="store_true",
        help="damaged files of dgl.save_graphs too, which may end the process in DGL",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _stop)
    total: Counter[str] = Counter()
    lines: list[str] = []
    kinds = ("inputs", "accepted", "refused", "foreign", "wrong", "costly")
    print(f"| door | {' | '.join(kinds)} | seconds |\n|---|{'---|' * (len(kinds) + 1)}")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as temporary:
        warnings.simplefilter("ignore")
        for door in doors(Path(temporary)):
            wanted = door.name in options.door if options.door else options.dgl_files or not door.apart
            if not wanted:
                continue
            start = time.perf_counter()
            found, faults = count(door, options.examples, options.seed)
            total += found
            cells = " | ".join(f"{found[kind]:,}" for kind in kinds)
            print(f"| {door.name} | {cells} | {time.perf_counter() - start:.0f} |", flush=True)
            lines += [f"{door.name}: {times} × {what}\n    {text}" for what, (times, text) in faults.items()]
    print(f"| all | {' | '.join(f'{total[kind]:,}' for kind in kinds)} | |\n")
    print("\n".join(lines))
    sys.exit(bool(total["foreign"] + total["wrong"] + total["costly"]))


if __name__ == "__main__":
    main()

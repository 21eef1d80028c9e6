"""Count exceptions of other packages that `make_task`, `Distiller` and `Predictor` let through.

Each generated value, of the kinds in ``tests/odd_values.py``, takes the place of one argument after the other::

    python benchmarks/odd_arguments.py --values 1500
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "serving"), str(TESTS / "data")]

import test_predictor_arguments as of_predictor  # noqa: E402
import test_task_arguments as of_task  # noqa: E402
from odd_values import odd_arguments, outcome  # noqa: E402

from dgl_rbm import Distiller, make_task  # noqa: E402

COMPONENTS = ("teacher", "student", "encoder", "regularizer", "setting", "objective", "training", "seed", "callbacks")


def calls(value: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of an argument, and a call with `value` in its place."""
    for predictor in (of_predictor.PREDICTOR, of_predictor.TEXT):
        for name in ("features", "node_ids", "neighbors", "encodings"):
            yield f"predict {name}", partial(predictor.predict, **({"features": of_predictor.ROWS} | {name: value}))
    mixed = {"node_ids": value, "neighbors": [[1], [], [2]]}
    yield "predict mixed", partial(of_predictor.PREDICTOR.predict, of_predictor.ROWS, **mixed)
    for name in (*of_task.ARGUMENTS, *of_task.OPTIONS):
        yield f"make_task {name}", partial(make_task, of_task.GRAPH, **(of_task.ARGUMENTS | {name: value}))
    for name in COMPONENTS:
        yield f"Distiller {name}", partial(Distiller, **{name: value})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=1500, help="number of generated values")
    count = parser.parse_args().values
    found: Counter[str] = Counter()
    foreign: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(odd_arguments)
    def run(value: Any) -> None:
        for name, call in calls(value):
            try:
                found["accepted" if outcome(call) is not None else "refused"] += 1
            except Exception as error:
                foreign[f"{name}: {type(error).__name__}"] += 1

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    seconds = time.perf_counter() - start
    print(f"{found['accepted']:,} accepted, {found['refused']:,} refused, {foreign.total():,} foreign exceptions")
    print(f"{seconds:.0f} s")
    for name, times in foreign.most_common():
        print(f"{times:6,} × {name}")
    sys.exit(bool(foreign))


if __name__ == "__main__":
    main()

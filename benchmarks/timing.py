"""Shared code of the benchmarks: interleaved timing and JSON output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dgl_rbm.runtime.environment import hardware, versions

__all__ = ["Timing", "alternate", "machine", "write_json"]


class Timing(dict[str, float]):
    """Median seconds by name, and median ratios of times in the same repeat."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        super().__init__({name: median(values) for name, values in seconds.items()})
        self.seconds = seconds

    def ratio(self, name: str, base: str) -> float:
        """Return the median over repeats of the time of `name` over that of `base` in the same repeat."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True))


def alternate(contenders: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2) -> Timing:
    """Time the contenders in turn, so that fluctuations of the machine's load affect all of them alike."""
    for _ in range(warmup):
        for run in contenders.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return Timing(seconds)


def machine() -> dict[str, Any]:
    """Return hardware, versions and number of threads."""
    return {"hardware": hardware(), "versions": versions(), "threads": torch.get_num_threads()}


def write_json(path: Path | None, results: Any) -> None:
    """Write results and machine to a JSON file, if a path is given."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")

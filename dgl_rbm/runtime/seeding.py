"""Random generators: one seed for a run, one stream for each of its stages, and no trace outside."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derive_seed", "seeded"]


def derive_seed(seed: int, name: str) -> int:
    """Return a seed in ``[0, 2**31)`` for the stream `name` of a run seeded with `seed`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@contextmanager
def seeded(seed: int, name: str) -> Iterator[int]:
    """Seed torch, NumPy, `random` and, where it is loaded, DGL; restore the first three on leaving.

    Yields
    ------
    int
        The derived seed, for libraries that take one of their own.
    """
    stream = derive_seed(seed, name)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream)
        np.random.seed(stream)
        random.seed(stream)
        if "dgl" in sys.modules:
            sys.modules["dgl"].seed(stream)
        try:
            yield stream
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)

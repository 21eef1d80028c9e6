"""Seeding of random generators: one seed per run, one stream per stage."""

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
    """Return the seed of the stream `name` in a run of seed `seed`, in ``[0, 2**31)``."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@contextmanager
def seeded(seed: int, name: str) -> Iterator[int]:
    """Seed torch, NumPy, `random` and, if it is loaded, DGL; restore the first three on exit.

    Yields
    ------
    int
        The derived seed, for libraries with a seed argument.
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

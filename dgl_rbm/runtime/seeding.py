"""Seeding of random generators: one seed per run, one stream per stage."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import set_bit_generator

from dgl_rbm.runtime.process_state import ProcessState, isolated

__all__ = ["derive_seed", "seeded"]


def derive_seed(seed: int, name: str) -> int:
    """Return the seed of the stream `name` in a run of seed `seed`, in ``[0, 2**31)``."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@contextmanager
def seeded(seed: int, name: str) -> Iterator[int]:
    """Seed torch, NumPy, `random` and, if it is loaded, DGL within `isolated`; restore them on exit.

    Yields
    ------
    int
        The derived seed, for libraries with a seed argument.
    """
    stream = derive_seed(seed, name)
    with isolated() as lease:
        outer = ProcessState.current()
        set_bit_generator(np.random.MT19937(0))
        np.random.seed(stream)
        torch.manual_seed(stream)
        random.seed(stream)
        lease.seed_dgl(stream)
        try:
            yield stream
        finally:
            if lease.held:
                outer.install()

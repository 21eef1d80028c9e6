"""Cell of a grid: one run, identified by its options and the files that it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from dgl_rbm._version import __version__
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.experiments.names import file_name
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.fingerprint import dataset_digest, teacher_digest

__all__ = ["Cell", "Variant", "VariantMaker"]

# Options that identify the place of a cell, or the device.
_PLACES = ("dataset", "setting", "seed", "device")


@dataclass(frozen=True)
class Variant:
    """One of the alternatives that are compared: a method, or a choice of options.

    Attributes
    ----------
    name : str
        In tables.
    values : mapping of str to object
        Nested plain values as `dgl_rbm.run.config.resolve_config` takes them: teacher, student, encoder,
        regularizer, objective, training, and options of the dataset without its ``kind``.
    """

    name: str
    values: Mapping[str, Any]


VariantMaker = Callable[[str, str], Variant]


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    Attributes
    ----------
    variant, dataset, setting : str
        Names in tables.
    seed : int
        Seed of the run, and of the split if the dataset fixes none.
    config : DistillConfig
        The resolved configuration.
    """

    variant: str
    dataset: str
    setting: str
    seed: int
    config: DistillConfig

    @property
    def title(self) -> str:
        """Name for messages."""
        return f"{self.variant}, {self.dataset}, {self.setting}, seed {self.seed}"

    # Cached, since it reads files.
    @cached_property
    def digest(self) -> str:
        """Digest of version, options and input files; a finished cell with another digest is another cell."""
        files = [dataset_digest(self.config.dataset), teacher_digest(self.config.teacher)]
        return _digest(__version__, self.config.to_values() | {"dataset": self._graph}, files)

    @property
    def _graph(self) -> dict[str, Any]:
        """Options of the dataset, except those that only locate its files."""
        access = cast(DatasetConfig, self.config.dataset).access
        values = self.config.to_values()["dataset"]
        return {name: value for name, value in values.items() if name not in access}

    @property
    def key(self) -> str:
        """Name of the cell's files: readable, and different for different options."""
        return f"{file_name(f'{self.variant}-{self.dataset}-{self.setting}-{self.seed}')}-{self.digest[:12]}"

    # Cached with the digest: a file that changes in between must not make runs of one command look different.
    @cached_property
    def dataset_id(self) -> str:
        """Short digest of the dataset's options and files; runs that differ in it are on different graphs or splits."""
        return _digest(self._graph, dataset_digest(self.config.dataset))[:8]

    @cached_property
    def teacher_id(self) -> str:
        """Short digest of the teacher's options and files, which distinguishes teachers of one kind."""
        return _digest(self.config.to_values()["teacher"], teacher_digest(self.config.teacher))[:8]

    @cached_property
    def options_id(self) -> str:
        """Short digest of all options but dataset, seed and device; only runs that share it may be averaged."""
        values = {name: value for name, value in self.config.to_values().items() if name not in _PLACES}
        return _digest(values, teacher_digest(self.config.teacher))[:8]

    @property
    def group(self) -> str:
        """Digest that cells with the same teacher on the same graph share."""
        values = self.config.to_values()
        return _digest(values["dataset"], values["teacher"], self.setting, self.seed)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Parts of runs that other runs take: a teacher or encodings, made once by whoever needs them first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dgl_rbm._version import __version__
from dgl_rbm.training.checkpoint import CheckpointStore, NullCheckpointStore
from dgl_rbm.training.fingerprint import add_graph, add_teacher_files
from dgl_rbm.training.locks import locked

if TYPE_CHECKING:
    from dgl_rbm.data.task import ObservedGraph
    from dgl_rbm.run_config import DistillConfig

__all__ = ["NullSharedParts", "SharedParts", "part_keys"]


def part_keys(config: DistillConfig, observed: ObservedGraph, device: torch.device) -> dict[str, str]:
    """Return for each part of a run that can be shared a digest of everything that it depends on.

    Parameters
    ----------
    config : DistillConfig
        Resolved.
    observed : ObservedGraph
        What is learnt from.
    device : torch.device
        Where; its kind counts, not its number.

    Returns
    -------
    dict of str to str
        By the names that `RunContext.cached` knows them by: ``"teacher"``, its states ``"hidden"``,
        ``"encodings"`` and ``"reliability"``.
    """
    graph = hashlib.sha256(str(observed.num_classes).encode())
    add_graph(graph, observed)
    common = [__version__, graph.hexdigest(), config.seed, device.type]
    values = config.to_values()
    files = hashlib.sha256()
    add_teacher_files(files, config.teacher)

    def key(*parts: Any) -> str:
        return hashlib.sha256(json.dumps([*common, *parts], sort_keys=True).encode()).hexdigest()

    teacher = [values["teacher"], files.hexdigest()]
    read: list[Any] = teacher if config.encodings_read_teacher else []
    if any(encoder.kind == "auto" for encoder in config.encoder):
        # A student is trained to choose among them.
        read = [*teacher, *(values[part] for part in ("regularizer", "objective", "training", "setting"))]
    return {
        "teacher": key("teacher", *teacher),
        "hidden": key("hidden", *teacher),
        "encodings": key("encodings", values["encoder"], *read),
        "reliability": key("reliability", *teacher, values["regularizer"]),
    }


class SharedParts:
    """A folder of finished parts by what they depend on.

    Parameters
    ----------
    folder : Path
        Made when the first part is written.
    keys : mapping of str to str
        Name of a part to the digest it is found by; see `part_keys`. Parts of other names are not shared.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self.folder, self.keys = folder, dict(keys)

    @contextmanager
    def reserved(self, name: str) -> Iterator[CheckpointStore]:
        """Give the store of the part `name`, to nobody else at once: a second process waits until the first is done.

        Where files cannot be locked, two processes may do the same work, to the same result.
        """
        key = self.keys.get(name)
        if key is None:
            yield NullCheckpointStore()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        store = CheckpointStore(self.folder / f"{name}-{key[:24]}", key)
        # One that is there needs no reservation, and does not change any more.
        if store.load(name) is not None:
            yield store
            return
        with locked(self.folder / f"{name}-{key[:24]}.lock"):
            yield store


class NullSharedParts(SharedParts):
    """Shares nothing."""

    def __init__(self) -> None:
        super().__init__(Path(), {})

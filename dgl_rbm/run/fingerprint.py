"""Identifies a run's options and data, so that a checkpoint is only ever used by the run it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgl_rbm._version import __version__
from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import DglRbmError
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.run.config import DistillConfig

__all__ = ["add_graph", "add_teacher_files", "dataset_digest", "fingerprint", "part_keys", "teacher_digest"]

_ROWS_AT_ONCE = 2**20
_BYTES_AT_ONCE = 2**24
# Datasets whose download was tried: where the network does not answer, that takes long, and grids ask often.
_fetched: set[str] = set()


def fingerprint(config: DistillConfig, observed: ObservedGraph) -> str:
    """Return a digest of everything that training depends on: version, options, and the observed graph.

    Test labels and, in the inductive setting, unseen nodes are not part of it, as they are not of training.
    """
    digest = hashlib.sha256(__version__.encode())
    digest.update(json.dumps(config.to_values(), sort_keys=True).encode())
    digest.update(str(observed.num_classes).encode())
    add_teacher_files(digest, config.teacher)
    add_graph(digest, observed)
    return digest.hexdigest()


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


def add_teacher_files(digest: hashlib._Hash, teacher: ComponentConfig) -> None:
    """Add to `digest` the content of the files that a teacher reads: of ready logits a config only has the path."""
    for path in _teacher_files(teacher):
        digest.update(_content(path))


def dataset_digest(dataset: ComponentConfig) -> str | None:
    """Return a digest of the files that a graph is read from, downloaded first where they are not on disk.

    None of a graph that is generated, or whose files are not to be had.
    """
    if not isinstance(dataset, DatasetConfig):
        return None
    files, name = dataset.files(), dataset.model_dump_json()
    # Otherwise all runs after the one that downloads them would seem to be on another graph than those before it.
    if not files and name not in _fetched:
        _fetched.add(name)
        with suppress(DglRbmError):
            dataset.fetch()
        files = dataset.files()
    return _joint_digest(files)


def teacher_digest(teacher: ComponentConfig) -> str | None:
    """Return a digest of the files that a teacher reads, ready logits; None where there is none."""
    return _joint_digest(list(_teacher_files(teacher)))


def _joint_digest(files: Sequence[Path]) -> str | None:
    states = [(path.resolve(), path.stat()) for path in files]
    content = [_content_as_of(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return hashlib.sha256(b"".join(content)).hexdigest() if files else None


def _teacher_files(teacher: ComponentConfig) -> Iterator[Path]:
    path = getattr(teacher, "path", None)
    if path is not None and Path(path).is_file():
        yield Path(path)
    for member in getattr(teacher, "members", ()):
        yield from _teacher_files(member)


def _content(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_BYTES_AT_ONCE):
            digest.update(piece)
    return digest.digest()


@lru_cache(maxsize=1024)
def _content_as_of(path: Path, size: int, changed: int) -> bytes:
    """Return the digest of a file, which is read once for all runs of a grid unless its size or date changes."""
    return _content(path)


def add_graph(digest: hashlib._Hash, observed: ObservedGraph) -> None:
    """Add to `digest` the observed graph: its nodes' ids in the whole one, edges, features, known labels and split."""
    features = observed.features
    # The in-edges as they lie there: a list of edges would have to be made, and would stay in the graph.
    structure = [torch.as_tensor(part) for part in observed.graph.adj_tensors("csc")[:2]]
    parts: list[Tensor] = [observed.node_ids, *structure, observed.labels, observed.train_idx, observed.val_idx]
    if isinstance(features, Tensor):
        parts.append(features)
    else:
        assert isinstance(features, SparseRows), "a task's features are not stacked with anything"
        parts += [features.csr.crow_indices(), features.csr.col_indices(), features.csr.values()]
    for part in parts:
        digest.update(str(tuple(part.shape)).encode())
        # Piece by piece: features may lie on disk, and Ctrl-C is heard in between.
        for piece in part.detach().cpu().split(_ROWS_AT_ONCE):
            digest.update(piece.contiguous().numpy().data)

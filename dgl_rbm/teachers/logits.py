"""Teacher that reads precomputed logits of any model from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError, DataError
from dgl_rbm.registry import teachers
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy
from dgl_rbm.rows.sparse import Rows, rows_not_finite
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherConfig, TeacherOutput

__all__ = ["LogitsConfig", "LogitsTeacher"]

_SUFFIXES = (".npy", ".npz", ".safetensors", ".csv")


class LogitsTeacher(Teacher):
    """Looks up a node's logits by its id in the original graph of the task.

    Parameters
    ----------
    path : Path
        ``.npy`` or ``.csv`` (with or without a header) with one row per node, or ``.npz`` or ``.safetensors`` with an
        array ``logits``; numbers ``[N, C]``. Read on first use.
    num_classes : int
        C.
    """

    kind = "logits"

    def __init__(self, path: Path, num_classes: int) -> None:
        self.path = path
        self.num_classes = num_classes
        self._loaded: Tensor | None = None

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        """Read and check the file in the stage ``"teacher"``.

        Raises
        ------
        ArtifactError
            If the file is missing, damaged or of an unknown type.
        DataError
            If its shape does not fit the task, or it contains NaN or infinity.
        """
        with context.stage("teacher", 1, "files") as stage:
            self._rows(observed)
            stage.step(1)

    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Return the rows of the view's nodes.

        Raises
        ------
        ConfigError
            If features are given: a file cannot predict from perturbed features.
        """
        if features is not None:
            raise ConfigError(
                "The teacher 'logits' cannot predict from perturbed features, which the regularizer 'krd' requires.",
                hint="Use `regularizer: none`, or a teacher that is trained here, such as `teacher: sage`.",
            )
        return TeacherOutput(self._rows(view))

    def _rows(self, view: GraphView) -> Tensor:
        if self._loaded is None:
            self._loaded = _checked(read_logits(self.path), self.path, self.num_classes)
        largest = int(view.node_ids.max()) if len(view) else -1
        if largest >= len(self._loaded):
            raise DataError(
                f"'{self.path}' contains logits of {len(self._loaded)} nodes, but the graph has a node {largest}.",
                hint="Expected one row for each node of the whole graph, in the order of its node ids.",
            )
        return self._loaded[view.node_ids]


def read_logits(path: Path) -> np.ndarray[Any, Any]:
    """Read the array of a logits file without checking its values.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, of an unknown type, or lacks the array ``logits``.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ArtifactError(f"'{path}' is not a file of logits: expected one that ends in {', '.join(_SUFFIXES)}.")
    if not path.is_file():
        raise ArtifactError(f"There is no file of logits '{path}'.", hint="Give `teacher.path` an existing file.")
    try:
        if suffix == ".csv":
            return _read_csv(path)
        if suffix == ".npy":
            with path.open("rb") as file:
                return map_npy(file)
        if suffix == ".safetensors":
            arrays = load_file(path)
        else:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
    except (*NPY_DAMAGE, SafetensorError) as error:
        raise ArtifactError(f"'{path}' cannot be read: {error}") from None
    if "logits" not in arrays:
        raise ArtifactError(f"'{path}' has no array 'logits'; it contains {', '.join(sorted(arrays)) or 'nothing'}.")
    return arrays["logits"]


def _read_csv(path: Path) -> np.ndarray[Any, Any]:
    first = pd.to_numeric(pd.read_csv(path, header=None, nrows=1).iloc[0], errors="coerce")
    # pandas names unnamed columns 0, 1, 2, …; a row of logits with these values is dropped, and the count is checked.
    named = first.isna().all() or first.tolist() == list(range(len(first)))
    return pd.read_csv(path, header=0 if named else None).to_numpy()


def _checked(values: np.ndarray[Any, Any], path: Path, num_classes: int) -> Tensor:
    if values.dtype.kind not in "fiu":
        raise DataError(f"'{path}' contains values of type {values.dtype}, expected numbers.")
    if values.ndim != 2 or values.shape[1] != num_classes:
        raise DataError(
            f"'{path}' contains logits of shape {values.shape}, expected [nodes, {num_classes}].",
            hint=f"The task has {num_classes} classes: one column of scores for each.",
        )
    logits = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    bad = rows_not_finite(logits)
    if len(bad):
        shown = ", ".join(map(str, bad[:5].tolist())) + (", …" if len(bad) > 5 else "")
        raise DataError(f"'{path}' contains NaN or infinity in {len(bad)} rows: {shown}.")
    return logits


@teachers.register
class LogitsConfig(TeacherConfig):
    """Logits that were computed elsewhere."""

    accepts_perturbed_features: ClassVar[bool] = False
    paths: ClassVar[Any] = ("path",)

    kind: Literal["logits"] = Field("logits", description="Logits that were computed elsewhere.")
    path: Path = Field(
        description="File of logits, one row per node of the whole graph and one column per class: .npy or .csv, or "
        ".npz or .safetensors with an array 'logits'."
    )

    def files(self) -> list[Path]:
        """Return the file of logits if it exists."""
        return [self.path] if self.path.is_file() else []

    def build(self, in_dim: int, num_classes: int) -> LogitsTeacher:
        """Build the teacher; the file is read on first use."""
        return LogitsTeacher(self.path, num_classes)

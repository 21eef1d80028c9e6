"""A run on disk: safetensors, YAML and JSON, never pickle; a saved student loads without DGL.

========================= ==============================================================================
``config.yaml``           the resolved configuration
``metrics.json``          scores, sizes, times and versions
``history.jsonl``         one line per epoch of each stage
``student.safetensors``   weights, with what it takes to rebuild the student in the header
``encodings.safetensors`` stored vectors, encodings, and the feature normalisation
``teacher.safetensors``   weights and logits of all nodes
``report.md``             a summary for people
========================= ==============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from dgl_rbm.errors import ArtifactError, DataError, UnknownNameError
from dgl_rbm.registry import students
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.run.report import render_report
from dgl_rbm.runtime.checkpoint import read_state, write_atomic, write_state
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.serving.predictor import Predictor
from dgl_rbm.students.base import Student

if TYPE_CHECKING:
    from dgl_rbm.data.task import NodeTask
    from dgl_rbm.run.config import DistillConfig
    from dgl_rbm.teachers.base import Teacher

__all__ = [
    "STARTED",
    "DistillationResult",
    "SavedRun",
    "is_finished",
    "load_run",
    "load_teacher_state",
    "read_config_values",
    "save_run",
]

# Holds the configuration of a run under way, in the run's folder.
STARTED = "started.yaml"


@dataclass(frozen=True, repr=False)
class DistillationResult:
    """A finished run.

    Attributes
    ----------
    config : DistillConfig
        The resolved configuration.
    task : NodeTask
        The graph that it ran on.
    teacher : Teacher
        Fitted.
    predictor : Predictor
        Student, encodings and feature normalisation: all that a prediction from raw features needs. The
        features of `task` are normalised already; `inputs` makes student inputs of them.
    metrics : dict
        What ``metrics.json`` holds.
    history : list of dict
        One entry per epoch of each stage.
    teacher_logits, student_logits : Tensor
        Of all nodes, float32 ``[N, C]``; the teacher's ``[N, 0]`` where there is none.
    """

    config: DistillConfig
    task: NodeTask
    teacher: Teacher
    predictor: Predictor
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    teacher_logits: Tensor
    student_logits: Tensor

    def __repr__(self) -> str:
        scored = [role for role in ("teacher", "student") if "test_accuracy" in self.metrics[role]]
        scores = (f"{role} {100 * self.metrics[role]['test_accuracy']:.2f} %" for role in scored)
        what = f"{self.metrics['student']['kind']} from {self.metrics['teacher']['kind']} on {self.task.name}"
        return f"DistillationResult({what}, {self.task.setting}: test accuracy {', '.join(scores)})"

    @property
    def student(self) -> Student:
        """The trained student, on the CPU; reads rows of features beside encodings."""
        return self.predictor.student

    @property
    def encodings(self) -> Encodings:
        """The structural encodings of the observed nodes."""
        return self.predictor.encodings

    def inputs(self, node_ids: Sequence[int] | Tensor) -> Rows:
        """Return what the student reads of some nodes of the graph that the run was made from.

        For raw features of nodes that are not in it, see `Predictor.inputs`.

        Parameters
        ----------
        node_ids : sequence of int or Tensor
            Ids in that graph, observed or unseen, int64 ``[B]``.

        Returns
        -------
        Tensor or SparseRows
            float32 ``[B, F + P]``.
        """
        from dgl_rbm.evaluation.scores import student_inputs

        ids = torch.as_tensor(node_ids, dtype=torch.int64)
        count = self.task.graph.num_nodes()
        wrong = ids[(ids < 0) | (ids >= count)]
        if len(wrong):
            raise DataError(f"There are no nodes {wrong[:5].tolist()}; the graph has ids 0 to {count - 1}.")
        return student_inputs(self.encodings, self.task, ids)

    def save(self, folder: str | Path) -> Path:
        """Write the run to a folder, file by file and each one atomically; see `dgl_rbm.run.run`."""
        return save_run(self, Path(folder))


@dataclass(frozen=True, repr=False)
class SavedRun:
    """A run read back from its folder.

    Attributes
    ----------
    folder : Path
        Where it lies.
    predictor : Predictor
        Student, encodings and feature normalisation.
    metrics : dict
        The content of ``metrics.json``.
    """

    folder: Path
    predictor: Predictor
    metrics: dict[str, Any]

    def __repr__(self) -> str:
        return f"SavedRun({str(self.folder)!r}, student {self.student.kind})"

    @property
    def student(self) -> Student:
        """The student, in evaluation mode on the CPU."""
        return self.predictor.student


def save_run(result: DistillationResult, folder: Path) -> Path:
    """Write a finished run; each file is replaced atomically and ``metrics.json`` comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without it the folder holds no finished run, so that files of two runs never pass for one.
    (folder / "metrics.json").unlink(missing_ok=True)
    config = result.config.to_values()
    student = result.student
    header = {"in_dim": str(student.in_dim), "num_classes": str(student.num_classes)}
    write_state(folder / "student.safetensors", student.state_dict(), student=json.dumps(config["student"]), **header)
    write_state(
        folder / "encodings.safetensors",
        {
            "encodings": result.encodings.state_dict(),
            "normalization": result.predictor.normalization.state_dict(),
        },
    )
    write_state(
        folder / "teacher.safetensors", {"teacher": result.teacher.state_dict(), "logits": result.teacher_logits}
    )
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_atomic(folder / "history.jsonl", "".join(json.dumps(entry) + "\n" for entry in result.history))
    write_atomic(folder / "report.md", render_report(result.metrics, config))
    write_atomic(folder / "metrics.json", json.dumps(result.metrics, indent=2) + "\n")
    return folder


def is_finished(folder: Path) -> bool:
    """Whether `folder` holds a run that was saved to the end."""
    return (folder / "metrics.json").is_file()


def load_run(folder: str | Path, *, student: Student | None = None) -> SavedRun:
    """Read a saved run; DGL is not needed.

    Parameters
    ----------
    folder : path
        What `save_run` or ``dgl-rbm distill --out`` wrote.
    student : Student, optional
        Where the run's student was an instance of your own: one of the same class, to put the weights into.

    Raises
    ------
    ArtifactError
        Where the folder holds no finished run, or a file is truncated or of another version.
    """
    folder = Path(folder)
    metrics = _read_metrics(folder)
    state, header = read_state(folder / "student.safetensors")
    if student is None:
        student = _build_student(folder, header)
    try:
        student.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise ArtifactError(f"The weights in '{folder}/student.safetensors' do not fit the student: {error}") from None
    parts, _ = read_state(folder / "encodings.safetensors")
    predictor = Predictor(
        student.serve(),
        Encodings.from_state(parts["encodings"]),
        FeatureNormalization.from_state(parts["normalization"]),
    )
    return SavedRun(folder, predictor, metrics)


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.is_file():
        state = "holds no finished run" if folder.is_dir() else "does not exist"
        hint = f"`dgl-rbm distill --out {folder}` makes one."
        if (folder / STARTED).is_file():
            hint = f"`dgl-rbm distill --config {folder / STARTED} --out {folder}` continues the one that was stopped."
        raise ArtifactError(f"The folder '{folder}' {state}: there is no metrics.json.", hint=hint)
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ArtifactError(f"'{path}' is truncated or is not JSON.") from None
    return metrics


def _build_student(folder: Path, header: dict[str, str]) -> Student:
    if "student" not in header:
        raise ArtifactError(f"'{folder}/student.safetensors' was not written as a student.")
    config = json.loads(header["student"])
    if config["kind"] == "custom":
        raise ArtifactError(
            f"The student of '{folder}' is an instance of {config['type']}.",
            hint="Make one yourself and call load_run(folder, student=instance).",
        )
    try:
        resolved = students.resolve(config)
    except UnknownNameError as error:
        raise ArtifactError(
            f"The student of '{folder}' is of the kind '{config['kind']}', which is not known here. {error.message}",
            hint="Import the module that registers it first, or declare it as an entry point 'dgl_rbm.students'.",
        ) from None
    student: Student = resolved.build(int(header["in_dim"]), int(header["num_classes"]))
    return student


def load_teacher_state(folder: Path) -> tuple[dict[str, Any], Tensor]:
    """Return the teacher's state and its logits of all nodes, float32 ``[N, C]``."""
    state, _ = read_state(folder / "teacher.safetensors")
    return state["teacher"], state["logits"]


def read_config_values(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.yaml``, not yet resolved."""
    from dgl_rbm.config import read_yaml

    return read_yaml(folder / "config.yaml")

"""A finished run, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dgl_rbm.config import read_yaml
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.errors import ArtifactError, ConfigError, command, shown
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.run.files import OPTIONS, build_student, options_text, read_metrics
from dgl_rbm.run.manifest import MANIFEST, write_manifest
from dgl_rbm.run.metrics import EvaluationMetrics, RunMetrics
from dgl_rbm.run.report import render_report
from dgl_rbm.run.task_record import TaskRecord
from dgl_rbm.runtime.checkpoint import DAMAGED_JSON, read_state, write_atomic, write_state
from dgl_rbm.runtime.folders import as_path
from dgl_rbm.runtime.process_state import isolated
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.serving.predictor import Predictor
from dgl_rbm.students.base import Student

if TYPE_CHECKING:
    from dgl_rbm.data.task import NodeTask
    from dgl_rbm.run.config import DistillConfig
    from dgl_rbm.teachers.base import Teacher

__all__ = ["Run"]


class Run:
    """A finished run.

    `Distiller.fit` returns one with everything in memory. `Run.load` reads student, encodings and metrics, for which
    DGL is not needed; the rest is read or computed on first access.

    Attributes
    ----------
    predictor : Predictor
        Student, encodings and feature normalisation: all that a prediction from raw features needs. The features of
        `task` are normalised already; `inputs` turns them into student inputs.
    metrics : RunMetrics
        Content of ``metrics.json``.
    folder : Path or None
        The folder that it was loaded from.
    """

    def __init__(
        self,
        predictor: Predictor,
        metrics: RunMetrics,
        *,
        folder: Path | None = None,
        config: DistillConfig | None = None,
        history: list[dict[str, Any]] | None = None,
        teacher_logits: Tensor | None = None,
        student_logits: Tensor | None = None,
        task: NodeTask | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.predictor, self.metrics, self.folder = predictor, metrics, folder
        given = {
            "config": config,
            "history": history,
            "teacher_logits": teacher_logits,
            "student_logits": student_logits,
            "task": task,
            "teacher": teacher,
        }
        # In place of the cached properties of the same name.
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    def __repr__(self) -> str:
        teacher, student = self.metrics.teacher, self.metrics.student
        scored = {"teacher": teacher.test_accuracy, "student": student.test_accuracy}
        scores = (f"{role} {100 * value:.2f} %" for role, value in scored.items() if value is not None)
        what = f"{student.kind} from {teacher.kind} on {self.metrics.dataset}"
        return f"Run({what}, {self.metrics.setting}: test accuracy {', '.join(scores)})"

    @property
    def student(self) -> Student:
        """The trained student, in evaluation mode on the CPU; reads rows of features beside encodings."""
        return self.predictor.student

    @property
    def encodings(self) -> Encodings:
        """The structural encodings of the observed nodes."""
        return self.predictor.encodings

    @cached_property
    def config(self) -> DistillConfig:
        """The resolved configuration, with the components that validation chose."""
        from dgl_rbm.run.config import resolve_saved_config

        return resolve_saved_config(read_yaml(self._folder / "config.yaml"))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One entry per epoch of each stage."""
        path = self._folder / "history.jsonl"
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, *DAMAGED_JSON) as error:
            raise ArtifactError(f"'{path}' cannot be read: {error}.") from None

    @cached_property
    @isolated()
    def teacher_logits(self) -> Tensor:
        """The teacher's logits of all nodes, float32 ``[N, C]``; ``[N, 0]`` if there is no teacher."""
        logits: Tensor = self._teacher_state["logits"]
        return logits

    @cached_property
    @isolated()
    def student_logits(self) -> Tensor:
        """The student's logits of all nodes of `task`, float32 ``[N, C]``."""
        from dgl_rbm.evaluation.scores import student_logits

        return student_logits(self.student, self.encodings, self.task)

    @cached_property
    @isolated()
    def task_record(self) -> TaskRecord | None:
        """Ids, class names, split and digests of the graph; None for a saved run of a former version."""
        return TaskRecord.of(self.task) if self.folder is None else TaskRecord.read(self.folder)

    @cached_property
    @isolated()
    def task(self) -> NodeTask:
        """The graph that the run was made from; of a loaded run it is read again.

        Raises
        ------
        ArtifactError
            If it was a graph in memory, or its edges, features, labels or ids have changed since.
        """
        from dgl_rbm.data.build import build_task
        from dgl_rbm.data.load import load_task

        config = self.config
        if not isinstance(config.dataset, DatasetConfig):
            raise ArtifactError(
                f"The run in '{self.folder}' was made from a graph in memory, which it does not hold.",
                hint="In Python: pass the same graph, dgl_rbm.Run.load(folder, task=task), or predict from features, "
                "dgl_rbm.Run.load(folder).predictor.predict(features, node_ids=ids).",
            )
        if self.task_record is None:
            task = load_task(config.dataset, config.setting, config.seed)
            self._check_former(task)
            return task
        with self._hint_for_changed_graphs():
            source = config.dataset.load(config.seed)
            self.task_record.check_size(source.graph, self._graph)
            task = build_task(
                source,
                setting=config.setting,
                seed=config.seed,
                known_split=self.task_record.split,
                **config.dataset.task_options(),
            )
            self.task_record.check(task, self._graph)
        return task

    @property
    def _graph(self) -> str:
        return f"The graph of '{self.folder}'"

    @contextmanager
    def _hint_for_changed_graphs(self) -> Iterator[None]:
        try:
            yield
        except ArtifactError as error:
            hint = f"`{command('predict', self._folder)} GRAPH` predicts the nodes of a graph that has changed."
            raise ArtifactError(error.message, hint=hint) from None

    def _same_graph(self, task: NodeTask) -> NodeTask:
        """Return `task` with the split of the run, if it is the graph of the run."""
        if self.task_record is None:
            self._check_former(task)
            return task
        with self._hint_for_changed_graphs():
            self.task_record.check(task, self._graph)
        nodes = self.task_record.split.nodes
        return replace(
            task,
            train_idx=nodes.train_idx,
            val_idx=nodes.val_idx,
            test_idx=nodes.test_idx,
            unseen_idx=self.task_record.split.unseen_idx,
            setting=self.config.setting,
        )

    def _check_former(self, task: NodeTask) -> None:
        """Check the size of a graph, which is all that runs of former versions keep of it."""
        found = (task.graph.num_nodes(), task.graph.num_edges())
        expected = (self.metrics.nodes, self.metrics.edges)
        if found != expected:
            raise ArtifactError(
                f"{self._graph} had {expected[0]} nodes and {expected[1]} edges; now it has {found[0]} and {found[1]}.",
                hint=f"`{command('predict', self._folder)} GRAPH` predicts the nodes of a graph that has changed.",
            )

    @cached_property
    @isolated()
    def teacher(self) -> Teacher:
        """The fitted teacher.

        Raises
        ------
        ArtifactError
            If it was an instance, which a loaded run cannot rebuild.
        """
        from dgl_rbm.teachers.base import TeacherConfig
        from dgl_rbm.teachers.resolve import as_teacher

        config = self.config.teacher
        if not isinstance(config, TeacherConfig):
            raise ArtifactError(f"The teacher of '{self.folder}' was an instance, which cannot be rebuilt.")
        teacher = as_teacher(config, self.predictor.num_features, self.student.num_classes)
        teacher.load_state_dict(self._teacher_state["teacher"])
        return teacher

    @isolated()
    def inputs(self, node_ids: Any) -> Rows:
        """Return student inputs of some nodes of the graph that the run was made from.

        For raw features of nodes that are not in it, see `Predictor.inputs`.

        Parameters
        ----------
        node_ids : array-like
            Own ids of its nodes, observed or unseen, ``[B]``.

        Returns
        -------
        Tensor or SparseRows
            float32 ``[B, F + P]``.

        Raises
        ------
        DataError
            If an id is not one of the graph's.
        """
        from dgl_rbm.evaluation.scores import student_inputs

        return student_inputs(self.encodings, self.task, self.task.ids.positions(node_ids))

    @isolated()
    def evaluate(self) -> EvaluationMetrics:
        """Predict every node of `task` with the student and score it, with the split of the run.

        Raises
        ------
        ArtifactError
            As for `task`.
        """
        from dgl_rbm.run.scoring import evaluation_metrics

        task, of_teacher = self.task, self.teacher_logits
        # Without a teacher there are no columns, and so no scores.
        logits = {"teacher": of_teacher} if of_teacher.shape[1] else {}
        return evaluation_metrics(task, self.metrics.seed, {**logits, "student": self.student_logits})

    @isolated()
    def save(self, folder: str | Path, *, options: DistillConfig | None = None) -> Path:
        """Write the run to a folder, described in `dgl_rbm.run.files`; each file is replaced atomically.

        Parameters
        ----------
        folder : path
            Created if it is missing.
        options : DistillConfig, optional
            The configuration that the run was started with, by which the same command finds its run.
        """
        folder = as_path(folder, "folder")
        folder.mkdir(parents=True, exist_ok=True)
        # Without metrics the folder holds no finished run, so that files of two runs never pass for one.
        for name in ("metrics.json", MANIFEST, OPTIONS):
            (folder / name).unlink(missing_ok=True)
        config, student, metrics = self.config.located().to_values(), self.student, self.metrics.to_values()
        header = {"in_dim": str(student.in_dim), "num_classes": str(student.num_classes)}
        write_state(
            folder / "student.safetensors", student.state_dict(), student=json.dumps(config["student"]), **header
        )
        normalization = self.predictor.normalization.state_dict()
        write_state(
            folder / "encodings.safetensors",
            {"encodings": self.encodings.state_dict(), "normalization": normalization},
        )
        write_state(
            folder / "teacher.safetensors", {"teacher": self.teacher.state_dict(), "logits": self.teacher_logits}
        )
        if self.task_record is not None:
            self.task_record.write(folder)
        write_atomic(folder / "config.yaml", options_text(config))
        if options is not None:
            write_atomic(folder / OPTIONS, options_text(options.located().to_values()))
        write_atomic(folder / "history.jsonl", "".join(json.dumps(entry) + "\n" for entry in self.history))
        write_atomic(folder / "report.md", render_report(self.metrics, config))
        last = json.dumps(metrics, indent=2) + "\n"
        write_manifest(folder, {"metrics.json": last.encode()})
        write_atomic(folder / "metrics.json", last)
        return folder

    @classmethod
    @isolated()
    def load(cls, folder: str | Path, *, student: Student | None = None, task: NodeTask | None = None) -> Run:
        """Read a saved run; DGL is not needed.

        Parameters
        ----------
        folder : path
            Written by `save` or ``dgl-rbm distill --out``.
        student : Student, optional
            If the run's student was an instance: one of the same class, into which the weights are loaded.
        task : NodeTask, optional
            If the run was made from a graph in memory: the same graph, with any split; that of the run is used.

        Raises
        ------
        ArtifactError
            If the folder holds no finished run, a file was changed after the run was saved, or is of another version.
        """
        folder = as_path(folder, "folder")
        _check_given(student, task)
        metrics = read_metrics(folder)
        state, header = read_state(folder / "student.safetensors", verified=True)
        if student is None:
            student = build_student(folder, header)
        try:
            student.load_state_dict(state)
        except (RuntimeError, *DAMAGED_JSON) as error:
            raise ArtifactError(
                f"The weights in '{folder}/student.safetensors' do not fit the student: {error}"
            ) from None
        record = TaskRecord.read(folder)
        parts, _ = read_state(folder / "encodings.safetensors", verified=True)
        try:
            encodings = Encodings.from_state(parts["encodings"])
            normalization = FeatureNormalization.from_state(parts["normalization"])
        except DAMAGED_JSON as error:
            raise ArtifactError(f"'{folder}/encodings.safetensors' contains no encodings: {error!r}.") from None
        known = (record.ids, record.classes, record.feature_names) if record is not None else ()
        predictor = Predictor(student.serve(), encodings, normalization, *known)
        run = cls(predictor, metrics, folder=folder)
        run.task_record = record
        if task is not None:
            run.task = run._same_graph(task)
        return run

    @property
    def _folder(self) -> Path:
        assert self.folder is not None, "a run in memory has everything"
        return self.folder

    @cached_property
    def _teacher_state(self) -> dict[str, Any]:
        state: dict[str, Any] = read_state(self._folder / "teacher.safetensors")[0]
        return state


def _check_given(student: Any, task: Any) -> None:
    from dgl_rbm.data.task import NodeTask

    for name, value, expected in (("student", student, Student), ("task", task, NodeTask)):
        if value is not None and not isinstance(value, expected):
            raise ConfigError(f"{name} is {shown(value)}; expected a {expected.__name__}.")

"""Composes a run: graph, teacher, encodings, neighbour targets, table, student, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dgl_rbm.data.load import load_task
from dgl_rbm.data.make import task_from_graph
from dgl_rbm.data.task import NodeTask
from dgl_rbm.encoders.base import Encoder, EncoderConfig
from dgl_rbm.encoders.fit import WeighedEncoder, fit_encodings
from dgl_rbm.encodings import Encodings
from dgl_rbm.environment import versions
from dgl_rbm.errors import ConfigError
from dgl_rbm.evaluation.latency import student_latency, teacher_latency
from dgl_rbm.evaluation.scores import agreement, score, student_logits
from dgl_rbm.regularizers.base import Regularizer
from dgl_rbm.result import DistillationResult
from dgl_rbm.run_config import CustomConfig, DistillConfig, resolve_config, resolve_dataset
from dgl_rbm.serving import Predictor
from dgl_rbm.sparse import hstack
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.table import DistillationTable
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.training.callbacks import Callback
from dgl_rbm.training.checkpoint import CheckpointStore
from dgl_rbm.training.context import RunContext
from dgl_rbm.training.fingerprint import fingerprint
from dgl_rbm.training.seeding import seeded
from dgl_rbm.training.student import ObjectiveConfig, StudentFit, StudentTraining, fit_student

__all__ = ["Distiller"]

_DEFAULT_WIDTH, _DEFAULT_DEPTH = 256, 2
_FIELDS = {
    "features": "feat",
    "labels": "label",
    "train_mask": "train_mask",
    "val_mask": "val_mask",
    "test_mask": "test_mask",
}


class Distiller:
    """Trains a student that needs no graph from a teacher that does.

    Every component is given as a name, as a mapping with ``kind``, as a config, or as an instance.

    Parameters
    ----------
    teacher : str, mapping, TeacherConfig, Teacher or torch.nn.Module
        A module is called as ``module(graph_or_blocks, x)`` and returns logits ``[N, C]``. It is trained in
        place, from the weights that it has; one without trainable parameters is used as it is.
    student : str, mapping, StudentConfig or Student
        An instance is trained in place.
    encoder : str, mapping, EncoderConfig, Encoder, or a list of these
        Names joined by ``+`` are several encoders.
    regularizer : str, mapping, RegularizerConfig or Regularizer
        ``"none"`` or ``"krd"``.
    setting : {"transductive", "inductive"}
        Whether test nodes are in the graph during training, or a part of them is hidden until the end.
    objective : ObjectiveConfig or mapping, optional
        Weights of the student's loss.
    training : StudentTraining or mapping, optional
        How the student is trained.
    seed : int
        Seed of the split, the initial weights and all sampling.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    callbacks : sequence of Callback
        Told of the run's progress.

    Examples
    --------
    >>> from dgl_rbm import Distiller
    >>> result = Distiller(student="mlp", encoder="none", training={"epochs": 3}).fit("digits")
    >>> result.metrics["student"]["kind"]
    'mlp'
    """

    def __init__(
        self,
        teacher: Any = "sage",
        student: Any = "rbm",
        encoder: Any = "diffusion",
        regularizer: Any = "krd",
        *,
        setting: str = "transductive",
        objective: ObjectiveConfig | Mapping[str, Any] | None = None,
        training: StudentTraining | Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._instances: dict[str, Any] = {}
        parts = list(encoder) if isinstance(encoder, (list, tuple)) else [encoder]
        self.config = resolve_config(
            {
                "teacher": self._separate("teacher", teacher, (Teacher, nn.Module)),
                "student": self._separate("student", student, (Student,)),
                "encoder": [self._separate(f"encoder {i}", part, (Encoder,)) for i, part in enumerate(parts)]
                if len(parts) != 1 or isinstance(parts[0], Encoder)
                else parts[0],
                "regularizer": self._separate("regularizer", regularizer, (Regularizer,)),
                "setting": setting,
                "objective": objective or {},
                "training": training or {},
                "seed": seed,
                "device": device,
            }
        )
        self.callbacks = tuple(callbacks)

    @classmethod
    def from_config(cls, config: DistillConfig, callbacks: Sequence[Callback] = ()) -> Distiller:
        """Make a distiller from a resolved configuration; ``fit()`` then needs no graph."""
        distiller = cls(callbacks=callbacks)
        distiller.config = config
        return distiller

    def _separate(self, name: str, spec: Any, types: tuple[type, ...]) -> Any:
        """Put an instance aside and return its description; return anything else as it is."""
        if isinstance(spec, types):
            self._instances[name] = spec
            return CustomConfig.of(spec)
        return spec

    def fit(
        self,
        graph: Any = None,
        *,
        features: str = "feat",
        labels: str = "label",
        train_mask: str = "train_mask",
        val_mask: str = "val_mask",
        test_mask: str = "test_mask",
        split: str | None = None,
        out: str | Path | None = None,
    ) -> DistillationResult:
        """Run the whole pipeline.

        Parameters
        ----------
        graph : DGLGraph, NodeTask, str, mapping or DatasetConfig, optional
            A graph of your own, or a dataset's name; the default is the configuration's dataset, ``digits``.
            `dgl_rbm.task_from_graph` and `dgl_rbm.make_task` make a NodeTask with more choices, such as feature
            normalisation or a share of unseen nodes.
        features, labels, train_mask, val_mask, test_mask : str
            Names of the fields of ``graph.ndata``, where `graph` is a DGLGraph.
        split : str, optional
            In place of masks: ``"0.6/0.2/0.2"`` (shares) or ``"20/30"`` (nodes per class).
        out : path, optional
            Folder for checkpoints: a run that was stopped and is started again with the same options and data
            continues where it was. Runs with instances of your own as components keep no checkpoints.

        Returns
        -------
        DistillationResult

        Raises
        ------
        ConfigError, DataError
            Before any work starts, naming all problems.
        TrainingError
            Where a loss is no longer finite.
        """
        names = (features, labels, train_mask, val_mask, test_mask)
        if not all(isinstance(name, str) for name in names):
            raise ConfigError(
                "features, labels and masks are names of node fields here, not arrays.",
                hint="dgl_rbm.make_task(graph, features=..., labels=...) takes arrays and returns what fit takes.",
            )
        device = resolve_device(self.config.device)
        fields = {
            "features": features,
            "labels": labels,
            "train_mask": train_mask,
            "val_mask": val_mask,
            "test_mask": test_mask,
        }
        context = RunContext(seed=self.config.seed, device=device, callbacks=self.callbacks)
        with context.stage("data", unit="steps"):
            task, config = self._load(graph, fields, split)
        if out is not None and not self._instances:
            context.checkpoints = CheckpointStore(Path(out) / "checkpoints", fingerprint(config, task))
        return _Run(task, config, context, self._instances).execute()

    def _load(self, graph: Any, fields: Mapping[str, Any], split: str | None) -> tuple[NodeTask, DistillConfig]:
        config = self.config
        if isinstance(graph, NodeTask):
            if split is not None:
                raise ConfigError("A NodeTask has its split already.", hint="Give `split` to make_task.")
            update = {"dataset": CustomConfig.of(graph), "setting": graph.setting}
            return graph, config.model_copy(update=update)
        if graph is None or isinstance(graph, (str, Path, Mapping)) or hasattr(graph, "model_dump"):
            dataset = config.dataset if graph is None else resolve_dataset(graph)
            given = {name: value for name, value in fields.items() if value != _FIELDS[name]}
            if split is not None:
                given["split"] = split
            if given:
                dataset = resolve_dataset(dataset.model_dump() | given)
            config = config.model_copy(update={"dataset": dataset})
            return load_task(dataset, config.setting, config.seed), config
        task = task_from_graph(graph, **fields, split=split, setting=config.setting, seed=config.seed)
        return task, config.model_copy(update={"dataset": CustomConfig.of(graph)})


def resolve_device(name: str) -> torch.device:
    """Return the device that `name` means.

    Raises
    ------
    ConfigError
        Where torch does not know it or sees no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"There is no device '{name}'.", hint="Choices: auto, cpu, cuda, cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"The device '{name}' is not supported.", hint="Choices: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"The device '{name}' was asked for, but torch sees {torch.cuda.device_count()} GPUs.",
            hint="Use --device cpu, or see `dgl-rbm doctor`.",
        )
    # With its number: 'cuda' and 'cuda:0' are not equal, and torch 2.2 does not take the former everywhere.
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device


class _Run:
    """One run under way: each method is a stage, and hands plain values to the next."""

    def __init__(
        self, task: NodeTask, config: DistillConfig, context: RunContext, instances: Mapping[str, Any]
    ) -> None:
        self.task, self.config, self.context, self.instances = task, config, context, instances
        self.observed = task.observed()

    def execute(self) -> DistillationResult:
        teacher, output = self.fit_teacher()
        encodings = self.fit_encodings()
        table = self.make_table(teacher, output, encodings)
        student = self.build_student(teacher, table)
        fit = self.fit_student(student, table)
        with self.context.stage("evaluation", unit="steps"):
            logits = {
                "teacher": self.teacher_logits(teacher, output),
                "student": student_logits(student, encodings, self.task),
            }
            metrics = self.score(teacher, student, fit, logits)
        with self.context.stage("latency", unit="steps"):
            view = self.task.full()
            metrics["teacher"]["latency"] = teacher_latency(teacher, view)
            metrics["student"]["latency"] = student_latency(student, encodings, view)
        metrics["seconds"] = {name: round(seconds, 4) for name, seconds in self.context.seconds.items()}
        return DistillationResult(
            config=self.config,
            task=self.task,
            teacher=teacher,
            predictor=Predictor(student.cpu(), encodings, self.task.normalization),
            metrics=metrics,
            history=self.context.history,
            teacher_logits=logits["teacher"],
            student_logits=logits["student"],
        )

    def component(self, name: str, config: Any) -> Any:
        """Return the instance that the user gave, or what `config` builds."""
        return self.instances[name] if name in self.instances else config.build()

    def fit_teacher(self) -> tuple[Teacher, TeacherOutput]:
        spec = self.instances.get("teacher", self.config.teacher)
        with seeded(self.config.seed, "teacher-weights"):
            teacher = as_teacher(spec, self.task.features.shape[1], self.task.num_classes)

        def compute() -> dict[str, Any]:
            teacher.fit(self.observed, self.context)
            with self.context.stage("logits", unit="steps"):
                output = teacher.predict(self.observed, self.context)
            return {"teacher": teacher.state_dict(), "logits": output.logits, "hidden": output.hidden}

        state = self.context.cached("teacher", compute)
        teacher.load_state_dict(state["teacher"])
        return teacher, TeacherOutput(state["logits"], state["hidden"])

    def fit_encodings(self) -> Encodings:
        parts: list[WeighedEncoder] = []
        for i, config in enumerate(self.config.encoder):
            if f"encoder {i}" in self.instances:
                parts.append(WeighedEncoder(self.instances[f"encoder {i}"]))
            else:
                assert isinstance(config, EncoderConfig)
                parts.append(WeighedEncoder.from_config(config))
        state = self.context.cached("encodings", lambda: fit_encodings(parts, self.observed, self.context).state_dict())
        return Encodings.from_state(state)

    def make_table(self, teacher: Teacher, output: TeacherOutput, encodings: Encodings) -> DistillationTable:
        regularizer: Regularizer = self.component("regularizer", self.config.regularizer)
        targets = regularizer.prepare(self.observed, teacher, output, self.config.objective.temperature, self.context)
        device = self.context.device
        return DistillationTable(
            inputs=hstack(self.observed.features, encodings.values).to(device),
            labels=self.observed.labels.to(device),
            train_idx=self.observed.train_idx.to(device),
            val_idx=self.observed.val_idx.to(device),
            num_classes=self.task.num_classes,
            teacher_logits=output.logits.to(device),
            teacher_hidden=None if output.hidden is None else output.hidden.to(device),
            neighbor_targets=None if targets is None else targets.to(device),
        )

    def build_student(self, teacher: Teacher, table: DistillationTable) -> Student:
        in_dim = table.inputs.shape[1]
        student = self.instances.get("student")
        if student is None:
            config = self.config.student
            assert isinstance(config, StudentConfig)
            config = config.sized(teacher.hidden_dim or _DEFAULT_WIDTH, teacher.num_layers or _DEFAULT_DEPTH)
            self.config = self.config.model_copy(update={"student": config})
            with seeded(self.config.seed, "student-weights"):
                student = config.build(in_dim, self.task.num_classes)
        elif (student.in_dim, student.num_classes) != (in_dim, self.task.num_classes):
            raise ConfigError(
                f"The student given reads {student.in_dim} columns and knows {student.num_classes} classes; "
                f"this task has {in_dim} columns (features and encodings) and {self.task.num_classes} classes.",
            )
        return student.to(self.context.device)

    def fit_student(self, student: Student, table: DistillationTable) -> StudentFit:
        def compute() -> dict[str, Any]:
            fit = fit_student(student, table, self.context, self.config.training, self.config.objective)
            return {"student": student.state_dict(), "fit": vars(fit)}

        state = self.context.cached("student", compute)
        student.load_state_dict(state["student"])
        return StudentFit(**state["fit"])

    def teacher_logits(self, teacher: Teacher, output: TeacherOutput) -> Tensor:
        """Return the logits of all nodes: of observed ones as in training, of unseen ones from the full graph."""
        if not len(self.task.unseen_idx):
            return output.logits
        full = teacher.predict(self.task.full(), self.context).logits
        full[self.observed.node_ids] = output.logits
        return full

    def score(
        self, teacher: Teacher, student: Student, fit: StudentFit, logits: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return the metrics; the test labels are read here and nowhere else."""
        scores = score(self.task, logits)
        seconds = self.context.seconds
        return {
            "dataset": self.task.name,
            "setting": self.task.setting,
            "seed": self.config.seed,
            "nodes": self.task.graph.num_nodes(),
            "edges": self.task.graph.num_edges(),
            "teacher": {
                "kind": teacher.kind,
                **scores["teacher"],
                "parameters": teacher.num_parameters(),
                "seconds": seconds.get("teacher", 0.0) + seconds.get("logits", 0.0),
            },
            "student": {
                "kind": student.kind,
                **scores["student"],
                "parameters": student.num_parameters(),
                "active_parameters": student.num_active_parameters(),
                "best_epoch": fit.best_epoch,
                "epochs": fit.epochs,
                "seconds": seconds.get("student", 0.0),
            },
            "encoder": {
                "kind": "+".join(config.kind for config in self.config.encoder),
                "seconds": seconds.get("encoder", 0.0),
            },
            "regularizer": {"kind": self.config.regularizer.kind, "seconds": seconds.get("regularizer", 0.0)},
            "agreement": agreement(self.task, logits["student"], logits["teacher"]),
            "versions": versions(),
        }

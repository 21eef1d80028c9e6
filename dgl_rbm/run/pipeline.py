"""One run from task to result: teacher, encodings, neighbour targets, table, student, scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import NodeTask
from dgl_rbm.encoders.auto import AutoEncoderConfig
from dgl_rbm.encoders.base import EncoderConfig
from dgl_rbm.encoders.fit import WeightedEncoder, fit_encodings
from dgl_rbm.errors import ConfigError
from dgl_rbm.evaluation.latency import student_latency, teacher_latency
from dgl_rbm.evaluation.scores import accuracy, student_inputs, student_logits
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.metrics import run_metrics
from dgl_rbm.run.run import DistillationResult
from dgl_rbm.run.selection import choose, validation_record
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.serving.predictor import Predictor
from dgl_rbm.students.auto import AutoConfig
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.training.student import StudentFit, fit_student
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import LossTerm

__all__ = ["Pipeline"]


class Pipeline:
    """One run under way: each method is a stage, and hands plain values to the next.

    Parameters
    ----------
    task : NodeTask
        The graph to learn from.
    config : DistillConfig
        Resolved.
    context : RunContext
        Seed, device, callbacks and checkpoints.
    instances : mapping of str to object
        Components that were given as instances, by ``"teacher"``, ``"student"``, ``"encoder 0"``, ``"regularizer 0"``
        and so on.
    latency_of : collection of {"teacher", "student"}
        Which models' prediction times are measured.
    """

    def __init__(
        self,
        task: NodeTask,
        config: DistillConfig,
        context: RunContext,
        instances: Mapping[str, Any],
        latency_of: Collection[str] = ("teacher", "student"),
    ) -> None:
        self.task, self.config, self.context, self.instances = task, config, context, instances
        self.latency_of = latency_of
        self.observed = task.observed()
        self.encoder_candidates: list[dict[str, Any]] = []
        self.regularizers = [self._regularizer(i, part) for i, part in enumerate(config.regularizer)]
        self._terms: list[LossTerm] | None = None

    def _regularizer(self, i: int, config: ComponentConfig) -> Regularizer:
        instance: Regularizer | None = self.instances.get(f"regularizer {i}")
        if instance is not None:
            return instance
        assert isinstance(config, RegularizerConfig)
        return config.build()

    def execute(self) -> DistillationResult:
        """Run every stage."""
        teacher, output = self.fit_teacher()
        encodings = self.fit_encodings(teacher, output)
        table = self.make_table(output, encodings)
        terms = self.loss_terms(teacher, output)
        student, fit, candidates = self.train_student(teacher, table, terms)
        with self.context.stage("evaluation", unit="steps"):
            of_teacher = self.teacher_logits(teacher, output)
            logits = {"teacher": of_teacher} if output.targets is not None else {}
            logits["student"] = student_logits(student, encodings, self.task, self.context.substep)
            metrics = run_metrics(self.task, self.config, teacher, student, fit, logits, self.context.seconds)
        if candidates:
            metrics["candidates"] = candidates
        if self.encoder_candidates:
            metrics["encoder"]["candidates"] = self.encoder_candidates
        with self.context.stage("latency", unit="steps"):
            view = self.task.full()
            if "teacher" in self.latency_of:
                metrics["teacher"]["latency"] = teacher_latency(teacher, view)
            if "student" in self.latency_of:
                metrics["student"]["latency"] = student_latency(student, encodings, view)
        metrics["seconds"] = {name: round(seconds, 4) for name, seconds in self.context.seconds.items()}
        return DistillationResult(
            config=self.config,
            task=self.task,
            teacher=teacher,
            predictor=Predictor(student.cpu().serve(), encodings, self.task.normalization),
            metrics=metrics,
            history=self.context.history,
            teacher_logits=of_teacher,
            student_logits=logits["student"],
        )

    def validate(self, held_out: Tensor | None = None) -> dict[str, Any]:
        """Run the stages up to the student's training; return its `validation_record`. No test label is read.

        Parameters
        ----------
        held_out : Tensor, optional
            Labels of the task's test nodes, int64, where these are held-out validation nodes: accuracy and loss are
            theirs then.
        """
        teacher, output = self.fit_teacher()
        encodings = self.fit_encodings(teacher, output)
        table = self.make_table(output, encodings)
        student, fit, _ = self.train_student(teacher, table, self.loss_terms(teacher, output))
        record = validation_record(student, fit, table)
        if held_out is not None:
            scores = student.logits(student_inputs(encodings, self.task, self.task.test_idx))
            record["val_accuracy"] = accuracy(scores.argmax(dim=1), held_out)
            record["val_loss"] = float(cross_entropy(scores, held_out))
        return record

    def fit_teacher(self) -> tuple[Teacher, TeacherOutput]:
        """Return the fitted teacher and its predictions for the observed graph."""
        spec = self.instances.get("teacher", self.config.teacher)
        with seeded(self.config.seed, "teacher-weights"):
            teacher = as_teacher(spec, self.task.features.shape[1], self.task.num_classes)

        def compute() -> dict[str, Any]:
            teacher.fit(self.observed, self.context)
            with self.context.stage("logits", unit="steps"):
                output = teacher.predict(self.observed, self.context)
            return {"teacher": teacher.state_dict(), "logits": output.logits}

        state = self.context.cached("teacher", compute)
        teacher.load_state_dict(state["teacher"])
        return teacher, TeacherOutput(state["logits"], self._hidden_states(teacher))

    def _hidden_states(self, teacher: Teacher) -> Tensor | None:
        """Return the teacher's last hidden states of the observed nodes if a regularizer needs them."""
        if not any(regularizer.needs_teacher_hidden for regularizer in self.regularizers):
            return None

        # Apart from the logits, which runs of other objectives may take over.
        def compute() -> dict[str, Any]:
            with self.context.stage("hidden states", unit="steps"):
                return {"hidden": teacher.predict(self.observed, self.context, return_hidden=True).hidden}

        hidden: Tensor | None = self.context.cached("hidden", compute)["hidden"]
        return hidden

    def fit_encodings(self, teacher: Teacher | None = None, output: TeacherOutput | None = None) -> Encodings:
        """Return the encodings of the observed nodes; teacher and output are needed where an encoder reads them.

        Where validation chooses the encoder, the configuration names the chosen one from here on, and
        `encoder_candidates` says how its rivals did.
        """
        for config in self.config.encoder:
            if isinstance(config, AutoEncoderConfig):
                return self._chosen_encodings(config, teacher, output)

        def compute() -> dict[str, Any]:
            return self._encoded(self.config.encoder, teacher, output, self.context).state_dict()

        return Encodings.from_state(self.context.cached("encodings", compute))

    def _encoded(
        self,
        configs: Sequence[ComponentConfig],
        teacher: Teacher | None,
        output: TeacherOutput | None,
        context: RunContext,
    ) -> Encodings:
        parts: list[WeightedEncoder] = []
        for i, config in enumerate(configs):
            if f"encoder {i}" in self.instances:
                parts.append(WeightedEncoder(self.instances[f"encoder {i}"]))
            else:
                assert isinstance(config, EncoderConfig)
                parts.append(WeightedEncoder.from_config(config))
        if teacher is not None and output is not None:
            parts = [part.bind_teacher(teacher, output) for part in parts]
        return fit_encodings(parts, self.observed, context)

    def _chosen_encodings(
        self, auto: AutoEncoderConfig, teacher: Teacher | None, output: TeacherOutput | None
    ) -> Encodings:
        if teacher is None or output is None:
            teacher, output = self.fit_teacher()
        # Before the choice, whose record is not to hold the time of a part that is kept on its own.
        terms = self.loss_terms(teacher, output)

        def train(i: int, candidate: ComponentConfig) -> tuple[Encodings, dict[str, Any]]:
            with self._judged(i) as part:
                state = part.cached("encodings", lambda: self._encoded([candidate], teacher, output, part).state_dict())
                encodings = Encodings.from_state(state)
                table = self.make_table(output, encodings)
                student, _ = self._built(teacher, table, auto.judge)
                record = validation_record(student, self.fit_student(student, table, terms, part), table)
            return encodings, record | {"kind": candidate.kind}

        def compute() -> dict[str, Any]:
            chosen, encodings, records = choose(auto.candidates, train)
            return {"chosen": chosen, "encodings": encodings.state_dict(), "candidates": records}

        state = self.context.cached("encodings", compute)
        self.encoder_candidates = state["candidates"]
        # What is saved says which encoder it is; the rivals are in the metrics.
        self.config = self.config.model_copy(update={"encoder": [auto.candidates[state["chosen"]]]})
        return Encodings.from_state(state["encodings"])

    @contextmanager
    def _judged(self, i: int) -> Iterator[RunContext]:
        """Give the context of a candidate for the encoder; its judge's training is a part of the choice."""
        with self.context.part(f"encoder-{i}", own_streams=False) as part:
            try:
                yield part
            finally:
                part.seconds = {"encoder": sum(part.seconds.values())}

    def make_table(self, output: TeacherOutput, encodings: Encodings) -> DistillationTable:
        """Return the rows that the student is trained on, with their labels and the teacher's predictions."""
        device, learns = self.context.device, self.config.training.learn_validation
        # Whether the test nodes' soft labels are learnt too. Without a teacher there are none, of no node.
        asked_alike = self.task.setting == "transductive" or output.targets is None
        return DistillationTable(
            inputs=hstack(self.observed.features, encodings.values).to(device),
            labels=self.observed.labels.to(device),
            train_idx=self.observed.train_idx.to(device),
            val_idx=self.observed.val_idx.to(device),
            num_classes=self.task.num_classes,
            teacher_logits=None if output.targets is None else output.targets.to(device),
            teaches_validation=asked_alike if learns is None else learns,
        )

    def loss_terms(self, teacher: Teacher, output: TeacherOutput) -> list[LossTerm]:
        """Return the regularizers' loss terms, prepared once for all trainings."""
        if self._terms is None:
            temperature = self.config.objective.temperature
            self._terms = [
                regularizer.prepare(self.observed, teacher, output, temperature, self.context).to(self.context.device)
                for regularizer in self.regularizers
            ]
        return self._terms

    def train_student(
        self, teacher: Teacher, table: DistillationTable, terms: Sequence[LossTerm]
    ) -> tuple[Student, StudentFit, list[dict[str, Any]]]:
        """Return the trained student, how its training went and, where it was chosen, how its rivals did.

        Each candidate is trained from the same seed as if it were alone.
        """
        config = self.config.student
        if not isinstance(config, AutoConfig):
            student = self.build_student(teacher, table, config)
            return student, self.fit_student(student, table, terms, self.context), []

        def train(i: int, candidate: ComponentConfig) -> tuple[tuple[Any, ...], dict[str, Any]]:
            with self.context.part(f"student-{i}", own_streams=False) as part:
                student = self.build_student(teacher, table, candidate)
                fit = self.fit_student(student, table, terms, part)
            self.context.history.extend({**entry, "candidate": i} for entry in part.history)
            return (student, fit, self.config.student), validation_record(student, fit, table)

        _, (student, fit, chosen), records = choose(config.candidates, train)
        # What is saved says what the student is; the rivals are in the metrics.
        self.config = self.config.model_copy(update={"student": chosen})
        return student, fit, records

    def build_student(self, teacher: Teacher, table: DistillationTable, config: ComponentConfig) -> Student:
        """Return the untrained student that `config` describes, or the instance that was given."""
        in_dim = table.inputs.shape[1]
        student = self.instances.get("student")
        if student is None:
            student, config = self._built(teacher, table, config)
            self.config = self.config.model_copy(update={"student": config})
        elif (student.in_dim, student.num_classes) != (in_dim, self.task.num_classes):
            raise ConfigError(
                f"The student given reads {student.in_dim} columns and knows {student.num_classes} classes; "
                f"this task has {in_dim} columns (features and encodings) and {self.task.num_classes} classes.",
            )
        return student.to(self.context.device)

    def _built(
        self, teacher: Teacher, table: DistillationTable, config: ComponentConfig
    ) -> tuple[Student, ComponentConfig]:
        """Return a student of the sizes that `config` leaves to the teacher and the table, and its whole config."""
        in_dim = table.inputs.shape[1]
        assert isinstance(config, StudentConfig)
        config = config.sized(teacher.hidden_dim, teacher.num_layers)
        config = config.with_encoding_dim(in_dim - self.task.features.shape[1])
        with seeded(self.config.seed, "student-weights"):
            return config.build(in_dim, self.task.num_classes).to(self.context.device), config

    def fit_student(
        self, student: Student, table: DistillationTable, terms: Sequence[LossTerm], context: RunContext
    ) -> StudentFit:
        """Train the student in place."""

        def compute() -> dict[str, Any]:
            fit = fit_student(student, table, context, self.config.training, self.config.objective, terms)
            return {"student": student.state_dict(), "fit": vars(fit)}

        state = context.cached("student", compute)
        student.load_state_dict(state["student"])
        return StudentFit(**state["fit"])

    def teacher_logits(self, teacher: Teacher, output: TeacherOutput) -> Tensor:
        """Return the logits of all nodes: of observed ones as in training, of unseen ones from the full graph."""
        if not len(self.task.unseen_idx):
            return output.logits
        full = teacher.predict(self.task.full(), self.context).logits
        full[self.observed.node_ids] = output.logits
        return full

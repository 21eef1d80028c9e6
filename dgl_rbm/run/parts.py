"""Stages of a run: teacher, encodings, loss terms, student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dgl_rbm.encoders.base import EncoderConfig
from dgl_rbm.encoders.fit import WeightedEncoder, fit_encodings
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.regularizers.base import Regularizer
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.run.config import CustomConfig, DistillConfig
from dgl_rbm.run.fitted import FittedEncodings, FittedStudent, FittedTeacher
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.run.selection import (
    EncoderSelection,
    StudentSelection,
    choose,
    validation_record,
)
from dgl_rbm.run.stages import Scope, Stage
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import StudentConfig
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.training.student import StudentFit, StudentTraining, fit_student, shortened
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import LossTerm

__all__ = ["HIDDEN", "TEACHER", "RunStages", "sized_student", "stages_of"]


def _fit_teacher(scope: Scope) -> FittedTeacher:
    observed, context = scope.observed, scope.context
    spec = scope.instances.get("teacher", scope.config.teacher)
    with seeded(context.seed, "teacher-weights"):
        teacher = as_teacher(spec, observed.features.shape[1], observed.num_classes)

    def compute() -> dict[str, Any]:
        teacher.fit(observed, context)
        with context.stage("logits", unit="steps"):
            output = teacher.predict(observed, context)
        return {"teacher": teacher.state_dict(), "logits": output.logits}

    state = context.cached("teacher", compute)
    teacher.load_state_dict(state["teacher"])
    return FittedTeacher(teacher, TeacherOutput(state["logits"]))


TEACHER = Stage("teacher", _fit_teacher, fields=("teacher",), shared=True)


def _hidden_states(scope: Scope) -> Tensor | None:
    """Return the teacher's last hidden states of the observed nodes.

    Apart from the logits, which runs of other objectives may take over.
    """
    teacher, context = scope.result(TEACHER).teacher, scope.context

    def compute() -> dict[str, Any]:
        with context.stage("hidden states", unit="steps"):
            return {"hidden": teacher.predict(scope.observed, context, return_hidden=True).hidden}

    hidden: Tensor | None = context.cached("hidden", compute)["hidden"]
    return hidden


HIDDEN = Stage("hidden", _hidden_states, upstream=(TEACHER,), shared=True)


def _regularizer_stage(i: int, config: Any, instances: Mapping[str, Any]) -> Stage[LossTerm]:
    """Return the stage that prepares the loss term of regularizer `i`, once for all trainings."""
    instance: Regularizer | None = instances.get(f"regularizer {i}")
    needs_hidden = (config if instance is None else instance).needs_teacher_hidden

    def prepare(scope: Scope) -> LossTerm:
        regularizer = scope.config.regularizer[i].build() if instance is None else instance  # type: ignore[union-attr]
        output = scope.result(TEACHER).output
        if needs_hidden:
            output = replace(output, hidden=scope.result(HIDDEN))
        temperature = scope.config.objective.temperature
        teacher = scope.result(TEACHER).teacher
        return regularizer.prepare(scope.observed, teacher, output, temperature, scope.context).to(scope.context.device)

    return Stage(
        f"regularizer {i if instance is not None else config.kind}",
        prepare,
        fields=(f"regularizer.{i}", "objective.temperature"),
        upstream=(TEACHER, HIDDEN) if needs_hidden else (TEACHER,),
        shared=True,
    )


# Read by `_make_table` and by the training itself.
_TRAINING_FIELDS = ("setting", "objective", "training")


def _make_table(scope: Scope, encodings: Encodings) -> DistillationTable:
    """Return the rows that a student is trained on, with their labels and the teacher's predictions."""
    device, observed, config = scope.context.device, scope.observed, scope.config
    output = scope.result(TEACHER).output
    learns = config.training.distill_on_validation
    # Validation nodes are treated like test nodes, whose soft labels are targets in the transductive setting alone.
    # Without a teacher there are no soft labels.
    like_test_nodes = config.setting == "transductive" or output.targets is None
    return DistillationTable(
        inputs=hstack(observed.features, encodings.values).to(device),
        labels=observed.labels.to(device),
        train_idx=observed.train_idx.to(device),
        val_idx=observed.val_idx.to(device),
        num_classes=observed.num_classes,
        teacher_logits=None if output.targets is None else output.targets.to(device),
        distill_on_validation=like_test_nodes if learns is None else learns,
    )


def _train(
    scope: Scope,
    context: RunContext,
    table: DistillationTable,
    config: StudentConfig | CustomConfig,
    regularizers: Sequence[Stage[LossTerm]],
    training: StudentTraining | None = None,
) -> FittedStudent:
    """Train the student that `config` describes, or the instance that was given."""
    options = scope.config.training if training is None else training
    terms = [scope.result(stage) for stage in regularizers]
    student: Any = scope.instances.get("student")
    if isinstance(config, StudentConfig):
        encoding_dim = table.inputs.shape[1] - scope.observed.features.shape[1]
        config = sized_student(config, scope.result(TEACHER).teacher, encoding_dim)
        with seeded(context.seed, "student-weights"):
            student = config.build(table.inputs.shape[1], table.num_classes)
    elif (student.in_dim, student.num_classes) != (table.inputs.shape[1], table.num_classes):
        raise ConfigError(
            f"The student given reads {student.in_dim} columns and predicts {student.num_classes} classes; this task "
            f"has {table.inputs.shape[1]} columns (features and encodings) and {table.num_classes} classes.",
        )
    student = student.to(context.device)

    def compute() -> dict[str, Any]:
        fit = fit_student(student, table, context, options, scope.config.objective, terms)
        return {"student": student.state_dict(), "fit": vars(fit)}

    state = context.cached("student", compute)
    student.load_state_dict(state["student"])
    fit = StudentFit(**state["fit"])
    return FittedStudent(student, fit, validation_record(student, fit, table), config)


def sized_student(config: StudentConfig, teacher: Teacher, encoding_dim: int) -> StudentConfig:
    """Return the config with the sizes that it leaves to the teacher, and with the number of encoding columns."""
    return config.sized(teacher.hidden_dim, teacher.num_layers).with_encoding_dim(encoding_dim)


def _encode(scope: Scope, configs: Sequence[Any], context: RunContext) -> dict[str, Any]:
    parts: list[WeightedEncoder] = []
    for i, config in enumerate(configs):
        instance = scope.instances.get(f"encoder {i}")
        part = WeightedEncoder.from_config(config) if instance is None else WeightedEncoder(instance)
        if TEACHER in scope.upstream:
            fitted = scope.result(TEACHER)
            part = part.bind_teacher(fitted.teacher, fitted.output)
        parts.append(part)
    return fit_encodings(parts, scope.observed, context).state_dict()


def _fit_encodings(scope: Scope) -> FittedEncodings:
    compute = lambda: _encode(scope, scope.config.encoder, scope.context)  # noqa: E731
    return FittedEncodings(Encodings.from_state(scope.context.cached("encodings", compute)))


def _choose_encoder(scope: Scope, regularizers: Sequence[Stage[LossTerm]]) -> FittedEncodings:
    (selection,) = scope.config.encoder
    assert isinstance(selection, EncoderSelection)
    training = scope.config.training

    def train(i: int, candidate: EncoderConfig) -> tuple[Encodings, CandidateRecord]:
        with _judging(scope.context, i) as context:
            state = context.cached("encodings", lambda: _encode(scope, [candidate], context))
            encodings = Encodings.from_state(state)
            table = _make_table(scope, encodings)
            short = shortened(training, len(table.distilled_rows), selection.judge_steps)
            record = _train(scope, context, table, selection.judge, regularizers, short).record
        return encodings, record.model_copy(update={"kind": candidate.kind})

    def compute() -> dict[str, Any]:
        # A teacher may be unable to predict parts of the graph, which one of several candidates needs.
        choice = choose(selection.candidates, train, skipped=(TrainingError, ConfigError))
        records = [record.model_dump() for record in choice.records]
        return {"chosen": choice.index, "encodings": choice.outcome.state_dict(), "candidates": records}

    state = scope.context.cached("encodings", compute)
    return FittedEncodings(
        Encodings.from_state(state["encodings"]),
        selection.candidates[state["chosen"]],
        [CandidateRecord(**record) for record in state["candidates"]],
    )


@contextmanager
def _judging(context: RunContext, i: int) -> Iterator[RunContext]:
    """Yield the context of a candidate for the encoder; its judge's training is a part of the choice."""
    with context.part(f"encoder-{i}", own_streams=False) as part:
        try:
            yield part
        finally:
            part.seconds = {"encoder": sum(part.seconds.values())}


@dataclass(frozen=True)
class RunStages:
    """The stages whose results other parts of the package ask for."""

    teacher: Stage[FittedTeacher]
    encodings: Stage[FittedEncodings]
    student: Stage[FittedStudent]
    regularizers: tuple[Stage[LossTerm], ...]


def _check_instances(config: DistillConfig, instances: Mapping[str, Any]) -> None:
    """Raise a ConfigError if a component of a saved run was an instance, which a configuration cannot rebuild."""
    components: dict[str, Any] = {"teacher": config.teacher, "student": config.student}
    components |= {f"encoder {i}": part for i, part in enumerate(config.encoder)}
    components |= {f"regularizer {i}": part for i, part in enumerate(config.regularizer)}
    for name, component in components.items():
        if isinstance(component, CustomConfig) and name not in instances:
            raise ConfigError(
                f"{name}: the configuration describes an instance of {component.type}, which it cannot rebuild.",
                hint="Pass the instance to Distiller.",
            )


def stages_of(config: DistillConfig, instances: Mapping[str, Any] | None = None) -> RunStages:
    """Return the stages of a run; what each reads follows from the components of the configuration.

    Parameters
    ----------
    config : DistillConfig
        Resolved.
    instances : mapping of str to object, optional
        Components given as instances; see `dgl_rbm.run.pipeline.Pipeline`.
    """
    given = instances or {}
    _check_instances(config, given)
    regularizers = [_regularizer_stage(i, part, given) for i, part in enumerate(config.regularizer)]
    if any(isinstance(encoder, EncoderSelection) for encoder in config.encoder):
        # Students are trained to choose among the candidates.
        encodings = Stage(
            "encodings",
            lambda scope: _choose_encoder(scope, regularizers),
            fields=("encoder", *_TRAINING_FIELDS),
            upstream=(TEACHER, *regularizers),
            shared=True,
        )
    else:
        reads = (TEACHER,) if config.encodings_read_teacher else ()
        encodings = Stage("encodings", _fit_encodings, fields=("encoder",), upstream=reads, shared=True)

    def train_student(scope: Scope) -> FittedStudent:
        table = _make_table(scope, scope.result(encodings).encodings)
        student = scope.config.student
        if not isinstance(student, StudentSelection):
            return _train(scope, scope.context, table, student, regularizers)

        def train(i: int, candidate: StudentConfig) -> tuple[FittedStudent, CandidateRecord]:
            # Each candidate is trained from the same seed as if it were alone.
            with scope.context.part(f"student-{i}", own_streams=False) as part:
                fitted = _train(scope, part, table, candidate, regularizers)
            scope.context.history.extend({**entry, "candidate": i} for entry in part.history)
            return fitted, fitted.record

        choice = choose(student.candidates, train)
        return replace(choice.outcome, candidates=choice.records)

    trained = Stage(
        "student",
        train_student,
        fields=("student", *_TRAINING_FIELDS),
        upstream=(TEACHER, *regularizers, encodings),
    )
    return RunStages(TEACHER, encodings, trained, tuple(regularizers))

"""Configuration of a run, resolved from names, mappings and configs, with all problems reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator
from pydantic_core import PydanticCustomError

from dgl_rbm.config import ComponentConfig, StrictConfig, validated
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.encoders.base import EncoderConfig
from dgl_rbm.errors import ConfigError, shown
from dgl_rbm.registry import DEFAULTS, students
from dgl_rbm.regularizers.base import RegularizerConfig
from dgl_rbm.regularizers.former_options import with_former_terms
from dgl_rbm.run.selection import EncoderSelection, StudentSelection
from dgl_rbm.specs import resolve_dataset, resolve_encoders, resolve_regularizers, resolve_teacher
from dgl_rbm.students.base import StudentConfig
from dgl_rbm.teachers.base import TeacherConfig
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.student import StudentTraining

__all__ = ["RUN_IDENTITY", "CustomConfig", "DistillConfig", "resolve_config", "resolve_saved_config"]

# Options that name the graph, setting and seed of a run.
RUN_IDENTITY = ("seed", "setting", "dataset", "dataset.kind", "dataset.name", "dataset.path")


class CustomConfig(ComponentConfig):
    """Stands in a saved configuration for a component that was given as an instance."""

    kind: Literal["custom"] = "custom"
    type: str = Field(description="The instance's class.")

    @classmethod
    def of(cls, instance: object) -> CustomConfig:
        """Describe `instance`."""
        return cls(type=f"{type(instance).__module__}.{type(instance).__qualname__}")


class DistillConfig(StrictConfig):
    """All options of ``dgl-rbm distill`` and of `Distiller`."""

    dataset: SerializeAsAny[DatasetConfig | CustomConfig] = Field(description="The graph to learn from.")
    setting: Literal["transductive", "inductive"] = Field(
        default="transductive",
        description="Whether test nodes are in the graph during training (transductive) or a part of them, "
        "with their edges, is hidden until the end (inductive).",
    )
    teacher: SerializeAsAny[TeacherConfig | CustomConfig] = Field(description="The graph neural network to learn from.")
    student: SerializeAsAny[StudentConfig | StudentSelection | CustomConfig] = Field(
        description="The model to train; it reads one row."
    )
    encoder: list[SerializeAsAny[EncoderConfig | EncoderSelection | CustomConfig]] = Field(
        description="Structural encodings to put beside the features, in this order."
    )
    regularizer: list[SerializeAsAny[RegularizerConfig | CustomConfig]] = Field(
        description="Additional losses beside labels and the teacher's predictions."
    )
    objective: ObjectiveConfig = Field(default=ObjectiveConfig(), description="Targets of the student.")
    training: StudentTraining = Field(default=StudentTraining(), description="How the student is trained.")
    seed: int = Field(default=0, ge=0, description="Seed of the split, the initial weights and all sampling.")
    device: str = Field(
        default="auto", description="Where to train: auto (a GPU if torch sees one), cpu, cuda or cuda:N."
    )

    @property
    def encodings_read_teacher(self) -> bool:
        """Whether the encodings depend on the teacher: through an encoder, or through the choice of one."""
        return any(
            isinstance(encoder, EncoderSelection) or (isinstance(encoder, EncoderConfig) and encoder.reads_teacher)
            for encoder in self.encoder
        )

    def to_values(self) -> dict[str, Any]:
        """Return nested plain values, as they stand in a YAML file."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _components_fit_together(self) -> DistillConfig:
        problems = [
            *self._conflicts_with_the_teacher(),
            *self._conflicts_among_encoders(),
            *self._conflicts_with_the_student(),
        ]
        if problems:
            messages, hints = zip(*problems, strict=True)
            context = {"problems": "\n".join(messages), "hint": "\n".join(filter(None, hints))}
            raise PydanticCustomError("conflict", "{problems}", context)
        return self

    def _conflicts_with_the_teacher(self) -> list[tuple[str, str]]:
        """Return what the other components need of the teacher and it cannot give, with what to do about it."""
        teacher = self.teacher
        if not isinstance(teacher, TeacherConfig):
            return []
        found: list[tuple[str, str]] = []
        for regularizer in self.regularizer:
            if isinstance(regularizer, RegularizerConfig):
                found += regularizer.conflicts_with(teacher)
        if teacher.has_predictions:
            return found
        reading = [
            encoder
            for encoder in self.encoder
            if isinstance(encoder, (EncoderConfig, EncoderSelection)) and encoder.reads_teacher
        ]
        if reading:
            selects = any(isinstance(encoder, EncoderSelection) for encoder in reading)
            reads = {"soft_labels": "soft labels are", "auto": "soft labels are"}.get(
                reading[0].kind, f"'{reading[0].kind}' reads"
            )
            found.append(
                (
                    f"encoder: {reads} the teacher's predictions, and the teacher 'none' makes none.",
                    "Name candidates without them: --set 'encoder.0.candidates=[diffusion, none]'"
                    if selects
                    else "Name a teacher, or use the encoder 'label_propagation', which reads the training labels.",
                )
            )
        return found

    def _conflicts_among_encoders(self) -> list[tuple[str, str]]:
        if len(self.encoder) > 1 and any(isinstance(encoder, EncoderSelection) for encoder in self.encoder):
            return [
                (
                    "encoder: 'auto' chooses one encoder and cannot stand beside others.",
                    "Name the others among its candidates.",
                )
            ]
        return []

    def _conflicts_with_the_student(self) -> list[tuple[str, str]]:
        student = self.student
        if not isinstance(student, StudentConfig):
            return []
        found = student.conflicts_with_encoders([part for part in self.encoder if isinstance(part, ComponentConfig)])
        losses = [part.kind for part in self.regularizer if part.kind != "none"]
        if losses and not student.trains:
            found.append(
                (
                    f"regularizer: the student '{student.kind}' has nothing to train, so '{losses[0]}' has no effect.",
                    "Set the regularizer to 'none'.",
                )
            )
        return found


_RESOLVERS: dict[str, Callable[[Any], Any]] = {
    "dataset": resolve_dataset,
    "teacher": resolve_teacher,
    "student": students.resolve,
    "encoder": resolve_encoders,
    "regularizer": resolve_regularizers,
}

# Take the place of components that cannot be resolved, so that the other options are checked as well: they fit every
# other component.
_NEUTRAL = {"dataset": "digits", "teacher": "sage", "student": "mlp", "encoder": "none", "regularizer": "none"}


def resolve_config(values: Mapping[str, Any]) -> DistillConfig:
    """Fill in defaults and resolve every component.

    Parameters
    ----------
    values : mapping
        Option to value; a component is a name, a mapping with ``kind``, or a config.

    Raises
    ------
    ConfigError
        Naming every wrong option of the whole configuration.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"The configuration is {shown(values)}; expected a mapping of options.")
    errors: list[ConfigError] = []
    resolved = with_former_terms({**DEFAULTS, **values})
    for name, resolve in _RESOLVERS.items():
        try:
            resolved[name] = resolve(resolved[name])
        except ConfigError as error:
            errors.append(error)
            resolved[name] = resolve(_NEUTRAL[name])
    resolved["encoder"] = _fitting_selection(resolved["encoder"], resolved["teacher"])
    config: DistillConfig | None = None
    try:
        config = validated(DistillConfig, resolved, where="")
    except ConfigError as error:
        errors.append(error)
    if config is None or errors:
        hints = dict.fromkeys(line for error in errors for line in (error.hint or "").splitlines() if line)
        raise ConfigError("\n".join(error.message for error in errors), hint="\n".join(hints) or None)
    return config


def _fitting_selection(configs: list[Any], teacher: Any) -> list[Any]:
    """Return the encoders with default candidates that fit a teacher without predictions."""
    if not isinstance(teacher, TeacherConfig) or teacher.has_predictions:
        return configs
    return [config.without_teacher() if isinstance(config, EncoderSelection) else config for config in configs]


def resolve_saved_config(values: Mapping[str, Any]) -> DistillConfig:
    """Resolve the configuration of a saved run, in which instances are described and cannot be built.

    Raises
    ------
    ConfigError
        As for `resolve_config`.
    """
    return resolve_config({name: _described_instances(value) for name, value in values.items()})


def _described_instances(value: Any) -> Any:
    if isinstance(value, list):
        return [_described_instances(part) for part in value]
    if isinstance(value, Mapping) and value.get("kind") == "custom":
        return CustomConfig(**value)
    return value

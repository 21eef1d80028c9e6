"""The configuration of a whole run, resolved from names, mappings and configs, with all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from dgl_rbm.config import ComponentConfig, StrictConfig, validated
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import DEFAULTS, students
from dgl_rbm.regularizers.base import RegularizerConfig
from dgl_rbm.regularizers.former_options import with_former_terms
from dgl_rbm.specs import resolve_dataset, resolve_encoders, resolve_regularizers, resolve_teacher
from dgl_rbm.teachers.base import TeacherConfig
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.student import StudentTraining

__all__ = ["RUN_IDENTITY", "CustomConfig", "DistillConfig", "resolve_config"]

# The options that say of which graph, setting and seed a run is.
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

    dataset: SerializeAsAny[ComponentConfig] = Field(description="The graph to learn from.")
    setting: Literal["transductive", "inductive"] = Field(
        default="transductive",
        description="Whether test nodes are in the graph during training (transductive) or a part of them, "
        "with their edges, is hidden until the end (inductive).",
    )
    teacher: SerializeAsAny[ComponentConfig] = Field(description="The graph neural network to learn from.")
    student: SerializeAsAny[ComponentConfig] = Field(description="The model to train; it reads one row.")
    encoder: list[SerializeAsAny[ComponentConfig]] = Field(
        description="Structural encodings to put beside the features, in this order."
    )
    regularizer: list[SerializeAsAny[ComponentConfig]] = Field(
        description="Additional losses beside labels and the teacher's predictions."
    )
    objective: ObjectiveConfig = Field(default=ObjectiveConfig(), description="What the student is asked to match.")
    training: StudentTraining = Field(default=StudentTraining(), description="How the student is trained.")
    seed: int = Field(default=0, ge=0, description="Seed of the split, the initial weights and all sampling.")
    device: str = Field(
        default="auto", description="Where to train: auto (a GPU where torch sees one), cpu, cuda or cuda:N."
    )

    @property
    def encodings_read_teacher(self) -> bool:
        """Whether the encodings depend on the teacher: by what they are made of, or by how they are chosen."""
        return any(encoder.kind == "auto" or getattr(encoder, "reads_teacher", False) for encoder in self.encoder)

    def to_values(self) -> dict[str, Any]:
        """Return nested plain values, as they stand in a YAML file."""
        return self.model_dump(mode="json")


_RESOLVERS: dict[str, Callable[[Any], Any]] = {
    "dataset": resolve_dataset,
    "teacher": resolve_teacher,
    "student": students.resolve,
    "encoder": resolve_encoders,
    "regularizer": resolve_regularizers,
}


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
    problems: list[str] = []
    hints: list[str] = []
    resolved = with_former_terms({**DEFAULTS, **values})
    wrong: set[str] = set()
    for name, resolve in _RESOLVERS.items():
        try:
            resolved[name] = resolve(resolved[name])
        except ConfigError as error:
            problems.append(error.message)
            hints.append(error.hint or "")
            wrong.add(name)
            # A value that passes, so that the other options are checked as well.
            resolved[name] = resolve(DEFAULTS[name])
    teacher = resolved["teacher"]
    for regularizer in resolved["regularizer"] if "regularizer" not in wrong else ():
        if isinstance(regularizer, RegularizerConfig) and isinstance(teacher, TeacherConfig):
            try:
                regularizer.check_teacher(teacher)
            except ConfigError as error:
                problems.append(error.message)
                hints.append(error.hint or "")
    if len(resolved["encoder"]) > 1 and any(encoder.kind == "auto" for encoder in resolved["encoder"]):
        problems.append("encoder: 'auto' chooses one encoder and cannot stand beside others.")
        hints.append("Name the others among its candidates.")
    config: DistillConfig | None = None
    try:
        config = validated(DistillConfig, resolved, where="")
    except ConfigError as error:
        problems.append(error.message)
        hints.append(error.hint or "")
    else:
        reading = [encoder.kind for encoder in config.encoder if getattr(encoder, "reads_teacher", False)]
        if reading and not getattr(teacher, "has_predictions", True):
            problems.append("encoder: soft labels are the teacher's predictions, and the teacher 'none' makes none.")
            hints.append(
                "Name candidates without them: --set 'encoder.0.candidates=[diffusion, none]'"
                if reading == ["auto"]
                else "Name a teacher, or use the encoder 'label_propagation', which reads the training labels."
            )
    if config is None or problems:
        raise ConfigError("\n".join(problems), hint="\n".join(dict.fromkeys(filter(None, hints))) or None)
    return config

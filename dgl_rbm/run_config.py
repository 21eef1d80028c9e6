"""The configuration of a whole run, resolved from names, mappings and configs, with all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from dgl_rbm.config import ComponentConfig, StrictConfig, apply_overrides, validated
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import DEFAULTS, datasets, encoders, regularizers, students, teachers
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.student import StudentTraining

__all__ = [
    "RUN_IDENTITY",
    "CustomConfig",
    "DistillConfig",
    "combined_teacher",
    "list_encoders",
    "override_path",
    "resolve_config",
    "resolve_dataset",
    "resolve_encoders",
    "resolve_teacher",
    "with_overrides",
]

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
    regularizer: SerializeAsAny[ComponentConfig] = Field(description="Targets from the neighbourhood.")
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


def resolve_dataset(spec: Any) -> ComponentConfig:
    """Resolve a dataset's name, mapping or config; ``ogbn-*`` and paths are names too.

    A file is taken for a graph saved by ``dgl.save_graphs``, a folder for DGL's CSV-dataset format.
    """
    values = {"kind": spec} if isinstance(spec, (str, Path)) else spec
    if isinstance(values, Mapping) and isinstance(values.get("kind"), (str, Path)):
        kind, options = str(values["kind"]), {key: value for key, value in values.items() if key != "kind"}
        if kind.startswith("ogbn-"):
            values = {"kind": "ogb", "name": kind, **options}
        elif kind not in datasets.names() and _looks_like_path(kind):
            values = {"kind": "csv" if Path(kind).is_dir() else "file", "path": kind, **options}
        else:
            values = {"kind": kind, **options}
    return datasets.resolve(values)


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".bin", ".dgl")) or Path(text).exists()


def resolve_encoders(spec: Any) -> list[ComponentConfig]:
    """Resolve one encoder or several: a list, or names joined by ``+``."""
    return [encoders.resolve(part) for part in list_encoders(spec)]


def list_encoders(spec: Any) -> list[Any]:
    """Return what stands for one encoder or several as a list, not resolved yet."""
    if isinstance(spec, str):
        return [part.strip() for part in spec.split("+")]
    return list(spec) if isinstance(spec, (list, tuple)) else [spec]


def resolve_teacher(spec: Any) -> ComponentConfig:
    """Resolve one teacher or several: a list, or names joined by ``+``, stands for the average of them."""
    return teachers.resolve(combined_teacher(spec))


def combined_teacher(spec: Any) -> Any:
    """Return the options of the teacher ``average`` that stand for several teachers; what stands for one as it is."""
    if isinstance(spec, str) and "+" in spec:
        spec = [part.strip() for part in spec.split("+")]
    if not isinstance(spec, (list, tuple)):
        return spec
    return spec[0] if len(spec) == 1 else {"kind": "average", "members": list(spec)}


def override_path(override: str) -> str:
    """Return the dotted path of an assignment such as ``"student.num_experts=6"``."""
    return override.partition("=")[0].strip()


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `values` with dotted assignments applied; ones of a single encoder or of several teachers as well.

    Parameters
    ----------
    values : mapping
        Option to value, as for `resolve_config`.
    overrides : sequence of str
        As for `dgl_rbm.config.apply_overrides`, and ``encoder.0.OPTION=value`` where one encoder stands without a list,
        ``teacher.weights=value`` where ``sage+appnp`` stands for the average.
    """
    values = {**DEFAULTS, **values}
    paths = [override_path(override) for override in overrides]
    if any(re.match(r"encoder\.\d", path) for path in paths):
        values["encoder"] = list_encoders(values["encoder"])
    if any(path.startswith("teacher.") for path in paths):
        values["teacher"] = combined_teacher(values["teacher"])
    return apply_overrides(values, overrides)


_RESOLVERS: dict[str, Callable[[Any], Any]] = {
    "dataset": resolve_dataset,
    "teacher": resolve_teacher,
    "student": students.resolve,
    "encoder": resolve_encoders,
    "regularizer": regularizers.resolve,
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
    resolved = {**DEFAULTS, **values}
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
    teacher, regularizer = resolved["teacher"], resolved["regularizer"]
    asks_again = "regularizer" not in wrong and getattr(regularizer, "asks_teacher_again", False)
    if asks_again and not getattr(teacher, "can_be_asked_again", True):
        problems.append(
            f"regularizer: '{regularizer.kind}' asks the teacher again, on perturbed features, which the teacher "
            f"'{teacher.kind}' cannot answer."
        )
        hints.append("Use the regularizer 'none'.")
    if any(not getattr(member, "has_predictions", True) for member in getattr(teacher, "members", ())):
        problems.append("teacher: 'none' cannot be one of several teachers, since it predicts nothing.")
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
        if config.objective.similarity.weight and not getattr(teacher, "has_predictions", True):
            problems.append("objective.similarity: the teacher 'none' has no states to compare the student's with.")
            hints.append("Name a teacher, or set objective.similarity.weight to 0.")
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

"""Files of a run's folder: safetensors, YAML and JSON, never pickle.

========================= ==============================================================================
``config.yaml``           the resolved configuration
``options.yaml``          the configuration before validation chose components, by which a command finds its run
``metrics.json``          scores, sizes, times and versions; written last
``manifest.json``         sizes and SHA-256 digests of all files
``history.jsonl``         one line per epoch of each stage
``student.safetensors``   weights, with what it takes to rebuild the student in the header
``encodings.safetensors`` stored vectors, encodings, and the feature normalisation
``task.safetensors``      node ids, class names, split, and digests of the graph
``teacher.safetensors``   weights and logits of all nodes
``report.md``             a summary for people
========================= ==============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dgl_rbm.errors import ArtifactError, ConfigError, UnknownNameError, command
from dgl_rbm.registry import students
from dgl_rbm.run.manifest import MANIFEST, STARTED, verify_files
from dgl_rbm.run.metrics import RunMetrics
from dgl_rbm.runtime.checkpoint import DAMAGED_JSON
from dgl_rbm.students.base import Student

__all__ = ["OPTIONS", "STARTED", "build_student", "is_finished", "options_text", "read_metrics"]


# Contains the configuration that a finished run was started with.
OPTIONS = "options.yaml"


def options_text(values: Mapping[str, Any]) -> str:
    """Return the text of a configuration file; equal values give equal texts."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def is_finished(folder: Path) -> bool:
    """Whether `folder` holds a run that was saved to the end."""
    return (folder / "metrics.json").is_file()


def read_metrics(folder: Path) -> RunMetrics:
    """Verify all files of a run by its manifest and read ``metrics.json``.

    Raises
    ------
    ArtifactError
        If the folder holds no finished run, or a file is damaged.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        state = "holds no finished run" if folder.is_dir() else "does not exist"
        hint = f"`{command('distill', '--out', folder)}` makes one."
        if (folder / STARTED).is_file():
            hint = f"`{command('distill', '--config', folder / STARTED, '--out', folder)}` continues the stopped one."
        raise ArtifactError(f"The folder '{folder}' {state}: there is no metrics.json.", hint=hint)
    verified = verify_files(folder)
    try:
        metrics = RunMetrics.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        wrong = ", ".join(" -> ".join(map(str, detail["loc"])) or detail["msg"] for detail in error.errors())
        raise ArtifactError(f"'{path}' is truncated or holds no metrics of a run; missing or wrong: {wrong}.") from None
    if not verified and metrics.format > 1:
        raise ArtifactError(f"'{folder / MANIFEST}' is missing: the other files cannot be verified.")
    return metrics


def build_student(folder: Path, header: dict[str, str]) -> Student:
    """Return an untrained student of the kind and sizes that the header of ``student.safetensors`` describes.

    Raises
    ------
    ArtifactError
        If it describes none, an instance, or a component that is not known here.
    """
    if "student" not in header:
        raise ArtifactError(f"'{folder}/student.safetensors' was not written as a student.")
    try:
        config, in_dim, num_classes = json.loads(header["student"]), int(header["in_dim"]), int(header["num_classes"])
        kind = config["kind"]
    except DAMAGED_JSON as error:
        raise ArtifactError(f"The header of '{folder}/student.safetensors' is damaged: {error!r}.") from None
    if kind == "custom":
        raise ArtifactError(
            f"The student of '{folder}' is an instance of {config.get('type')}.",
            hint="Make one yourself and call Run.load(folder, student=instance).",
        )
    try:
        resolved = students.resolve(config)
    except UnknownNameError as error:
        raise ArtifactError(
            f"The student of '{folder}' is of the kind '{kind}', which is not known here. {error.message}",
            hint="Import the module that registers it first, or declare it as an entry point 'dgl_rbm.students'.",
        ) from None
    except ConfigError as error:
        raise ArtifactError(
            f"The student in '{folder}/student.safetensors' has options that are not known here. {error.message}",
            hint=error.hint,
        ) from None
    student: Student = resolved.build(in_dim, num_classes)
    return student

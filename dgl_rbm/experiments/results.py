"""results.csv: one row for each run of a comparison, in the order of its grid."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ArtifactError
from dgl_rbm.experiments.grid import Cell
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["COLUMNS", "PLACE", "TIMED_COLUMNS", "failed_row", "read_results", "result_row", "write_results"]

Row = dict[str, Any]

_STAGES = ("data", "teacher", "encoder", "regularizer", "student", "evaluation")
_VERSIONS = ("python", "dgl-rbm", "torch", "dgl", "numpy")

# What a second run of the same cell measures anew; everything else comes out the same.
TIMED_COLUMNS = (*(f"seconds_{stage}" for stage in _STAGES), "latency_us", "latency_p99_us", "latency_batch_us")

# What tells the runs of a comparison apart.
PLACE = ("method", "dataset", "setting", "seed")
_AGAIN = "`dgl-rbm compare` with the options of before writes it again, from the cells beside it."

_TEXT = (
    "method",
    "dataset",
    "setting",
    "status",
    "error",
    "teacher",
    "teacher_id",
    "student",
    "encoder",
    "regularizer",
    "split",
    "dataset_id",
    "options_id",
    "config",
)
_WHOLE = ("seed", "teacher_parameters", "parameters", "active_parameters", "best_epoch", "epochs")
_SCORES = ("val_accuracy", "test_accuracy", "test_macro_f1", "observed_test_accuracy", "production_accuracy")

COLUMNS = (
    "method",
    "dataset",
    "setting",
    "seed",
    "status",
    "error",
    "teacher",
    "teacher_id",
    "student",
    "encoder",
    "regularizer",
    "split",
    "dataset_id",
    "options_id",
    *_SCORES,
    *(f"teacher_{name}" for name in _SCORES),
    "agreement",
    "teacher_parameters",
    "parameters",
    "active_parameters",
    "best_epoch",
    "epochs",
    *TIMED_COLUMNS,
    "fetched_rows",
    "config",
    *(f"version_{name}" for name in _VERSIONS),
)


def result_row(cell: Cell, metrics: Mapping[str, Any]) -> Row:
    """Return the row of a finished run.

    Parameters
    ----------
    cell : Cell
    metrics : mapping
        `RunMetrics` as plain values. Scores that a run does not have, such as those of a teacher where there is
        none, are left empty.
    """
    teacher, student = metrics.get("teacher") or {}, metrics["student"]
    latency = student.get("latency") or {}
    seconds = metrics["seconds"]
    row = _names(cell) | {
        "status": "ok",
        "student": student["kind"],
        "encoder": metrics["encoder"]["kind"],
        "regularizer": metrics["regularizer"]["kind"],
        **{name: student.get(name) for name in _SCORES},
        **{f"teacher_{name}": teacher.get(name) for name in _SCORES},
        "agreement": metrics.get("agreement"),
        "teacher_parameters": teacher.get("parameters"),
        **{name: student[name] for name in ("parameters", "active_parameters", "best_epoch", "epochs")},
        **{f"seconds_{stage}": seconds.get(stage, 0.0) for stage in _STAGES},
        "seconds_teacher": seconds.get("teacher", 0.0) + seconds.get("logits", 0.0),
        "latency_us": latency.get("p50_us"),
        "latency_p99_us": latency.get("p99_us"),
        "latency_batch_us": latency.get("batch_us"),
        "fetched_rows": latency.get("fetched_rows"),
        **{f"version_{name}": metrics["versions"].get(name) for name in _VERSIONS},
    }
    return {column: row.get(column) for column in COLUMNS}


def failed_row(cell: Cell, error: str) -> Row:
    """Return the row of a run that ended with `error`."""
    row = _names(cell) | {"status": "failed", "error": " ".join(error.split())}
    return {column: row.get(column) for column in COLUMNS}


def _names(cell: Cell) -> Row:
    return {
        "method": cell.variant,
        "dataset": cell.dataset,
        "setting": cell.setting,
        "seed": cell.seed,
        "teacher": cell.config.teacher.kind,
        "teacher_id": cell.teacher_id,
        "split": getattr(cell.config.dataset, "split", None),
        "dataset_id": cell.dataset_id,
        "options_id": cell.options_id,
        "config": cell.digest[:12],
    }


def write_results(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``results.csv``, atomically; numbers in full, what a run does not have is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def read_results(path: Path) -> list[Row]:
    """Read ``results.csv`` back, numbers as numbers and empty cells as None.

    Raises
    ------
    ArtifactError
        Where there is no such file, it lacks a column, or a row is damaged; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"'{path}' cannot be read: {error.strerror}.", hint="`dgl-rbm compare --out FOLDER` writes one."
        ) from None
    except UnicodeDecodeError:
        raise ArtifactError(f"'{path}' cannot be read: it is no text in UTF-8.", hint=_AGAIN) from None
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ArtifactError(
            f"'{path}' lacks the columns {', '.join(missing)}.", hint="`dgl-rbm compare` writes a file that has them."
        )
    try:
        return [_parsed_row(row) for row in reader]
    except (ValueError, csv.Error) as error:
        raise ArtifactError(f"'{path}', line {reader.line_num}: {error}.", hint=_AGAIN) from None


def _parsed_row(texts: Mapping[Any, Any]) -> Row:
    """Return a row's values.

    Raises
    ------
    ValueError
        Where the row is not one that `write_results` wrote.
    """
    # So `csv.DictReader` shows values without a column, and columns without a value.
    if None in texts or None in texts.values():
        raise ValueError("it has more or fewer columns than the heading")
    row = {column: _parsed(column, texts[column]) for column in COLUMNS}
    needed = (*PLACE, "status", *(("val_accuracy", "test_accuracy") if row["status"] == "ok" else ()))
    for column in needed:
        if row[column] is None:
            raise ValueError(f"'{column}' is empty")
    return row


def _parsed(column: str, text: str) -> Any:
    if not text:
        return None
    if column in _TEXT or column.startswith("version_"):
        return text
    value = int(text) if column in _WHOLE else float(text)
    if not math.isfinite(value):
        raise ValueError(f"'{column}' is {text}, expected a finite number")
    return value

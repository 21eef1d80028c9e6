"""results.csv: one row per run of an experiment, in the order of its grid."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd

from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.errors import ArtifactError
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = [
    "COLUMNS",
    "PLACE",
    "RESULTS",
    "TIMED_COLUMNS",
    "failed_row",
    "read_results",
    "result_row",
    "results_frame",
    "to_records",
    "write_results",
]

RESULTS = "results.csv"

Row = dict[str, Any]

_STAGES = ("data", "teacher", "encoder", "regularizer", "student", "evaluation")
_VERSIONS = ("python", "dgl-rbm", "torch", "dgl", "numpy")

# Measured anew by a second run of the same cell; all other columns are reproduced.
TIMED_COLUMNS = (*(f"seconds_{stage}" for stage in _STAGES), "latency_us", "latency_p99_us", "latency_batch_us")

# Identifies a run.
PLACE = ("method", "dataset", "setting", "seed")
_AGAIN = "`dgl-rbm compare` with the same options as before writes it again from the cells beside it."

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

_WHOLE = ("seed", "teacher_parameters", "parameters", "active_parameters", "best_epoch", "epochs")
_NUMBERS = (*_SCORES, *(f"teacher_{name}" for name in _SCORES), "agreement", *TIMED_COLUMNS, "fetched_rows")
_TEXT = tuple(column for column in COLUMNS if column not in (*_WHOLE, *_NUMBERS))
# Never empty, the accuracies of runs that succeeded.
_NEEDED = (*PLACE, "status")
_NEEDED_IF_OK = ("val_accuracy", "test_accuracy")


def result_row(cell: Cell, metrics: Mapping[str, Any]) -> Row:
    """Return the row of a finished run.

    Parameters
    ----------
    cell : Cell
    metrics : mapping
        `RunMetrics` as plain values. Scores that a run does not have, such as those of a missing teacher, are empty.
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
        "split": cast(DatasetConfig, cell.config.dataset).split,
        "dataset_id": cell.dataset_id,
        "options_id": cell.options_id,
        "config": cell.digest[:12],
    }


def results_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame with the columns `COLUMNS`.

    Texts are of dtype object, with None if missing; whole numbers Int64 and other numbers float64.
    """
    frame = pd.DataFrame([{column: row.get(column) for column in COLUMNS} for row in rows], columns=list(COLUMNS))
    return _typed(frame)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    dtypes = {**dict.fromkeys(_WHOLE, "Int64"), **dict.fromkeys(_NUMBERS, "float64"), **dict.fromkeys(_TEXT, "object")}
    return frame.astype(dtypes)


def to_records(frame: pd.DataFrame) -> list[Row]:
    """Return a frame's rows as plain values, None if missing."""
    plain = frame.astype(object)
    return cast(list[Row], plain.where(frame.notna(), None).to_dict("records"))


def write_results(path: Path, results: pd.DataFrame) -> None:
    """Write ``results.csv`` atomically; floats in full precision, missing values empty."""
    write_atomic(path, results.to_csv(index=False, lineterminator="\n"))


def read_results(path: Path) -> pd.DataFrame:
    """Read ``results.csv``; see `results_frame` for the types.

    Raises
    ------
    ArtifactError
        If there is no such file, a column is missing, or a row is damaged; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"'{path}' cannot be read: {error.strerror}.", hint="`dgl-rbm compare --out FOLDER` writes one."
        ) from None
    except UnicodeDecodeError:
        raise ArtifactError(f"'{path}' cannot be read: it is not UTF-8 text.", hint=_AGAIN) from None
    try:
        # Texts as they stand: an empty field is "", and one that a short row lacks is None; the C engine mixes the two.
        texts = pd.read_csv(io.StringIO(text), dtype=object, keep_default_na=False, engine="python")
    except pd.errors.EmptyDataError:
        texts = pd.DataFrame()
    except pd.errors.ParserError as error:
        # Such as "Expected 48 fields in line 3, saw 49".
        raise ArtifactError(f"'{path}' is damaged: {error}.", hint=_AGAIN) from None
    missing = [column for column in COLUMNS if column not in texts]
    if missing:
        raise ArtifactError(
            f"'{path}' lacks the columns {', '.join(missing)}.", hint="`dgl-rbm compare` writes a file that has them."
        )
    if not isinstance(texts.index, pd.RangeIndex):
        # All rows have a value without a heading, which pandas takes for a label.
        raise ArtifactError(f"'{path}', line 2: more or fewer columns than the heading.", hint=_AGAIN)
    texts = texts[list(COLUMNS)]
    for line, row in enumerate(texts.itertuples(index=False, name=None), 2):
        problem = _problem(dict(zip(COLUMNS, row, strict=True)))
        if problem:
            raise ArtifactError(f"'{path}', line {line}: {problem}.", hint=_AGAIN)
    whole = texts[list(_WHOLE)].map(lambda text: int(text) if text else None)
    numbers = texts[list(_NUMBERS)].map(lambda text: float(text) if text else None)
    names = texts[list(_TEXT)].map(lambda text: text or None)
    return _typed(pd.concat([whole, numbers, names], axis=1)[list(COLUMNS)])


def _problem(row: Mapping[str, Any]) -> str | None:
    """Return why a row is not one that `write_results` wrote, None if it is."""
    if not all(isinstance(text, str) for text in row.values()):
        return "more or fewer columns than the heading"
    for column in (*_WHOLE, *_NUMBERS):
        text = row[column]
        if not text:
            continue
        try:
            finite = math.isfinite(int(text) if column in _WHOLE else float(text))
        except ValueError as error:
            return str(error)
        if not finite:
            return f"'{column}' is {text}, expected a finite number"
    for column in (*_NEEDED, *(_NEEDED_IF_OK if row["status"] == "ok" else ())):
        if not row[column]:
            return f"'{column}' is empty"
    return None

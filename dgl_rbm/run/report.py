"""Tables of a finished run, for a terminal or a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from dgl_rbm.run.metrics import EvaluationMetrics, RunMetrics, StudentMetrics, TeacherMetrics

__all__ = [
    "COLUMNS",
    "comparison_rows",
    "format_microseconds",
    "one_class_notes",
    "recall_rows",
    "render_report",
]

COLUMNS = ("", "test acc.", "val acc.", "parameters", "active", "one node", "rows read")
# Of more classes no recalls are listed.
_MOST_CLASSES = 20


def format_microseconds(value: float | None) -> str:
    """Return a time in µs or ms, whichever is shorter: ``"85 µs"``, ``"3.2 ms"``."""
    if value is None:
        return "–"
    return f"{value:.0f} µs" if value < 1000 else f"{value / 1000:.1f} ms"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def comparison_rows(metrics: RunMetrics) -> list[tuple[str, ...]]:
    """Return one row for the teacher, if there is one, and one for the student, with the columns `COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for role, model in _scored(metrics):
        latency = model.latency
        active = model.active_parameters if isinstance(model, StudentMetrics) else model.parameters
        rows.append(
            (
                f"{role} ({model.kind})",
                _percent(model.test_accuracy),
                _percent(model.val_accuracy),
                f"{model.parameters:,}",
                f"{active:,}",
                format_microseconds(None if latency is None else latency.p50_us),
                "–" if latency is None else f"{latency.fetched_rows:,.1f}",
            )
        )
    return rows


def _scored(metrics: RunMetrics) -> list[tuple[str, TeacherMetrics]]:
    models = [("teacher", metrics.teacher), ("student", metrics.student)]
    return [(role, model) for role, model in models if model.test_accuracy is not None]


def _agreement(metrics: RunMetrics) -> list[str]:
    if metrics.agreement is None:
        return []
    scored = "unseen" if metrics.setting == "inductive" else "test"
    return [f"Teacher and student agree on {_percent(metrics.agreement)} of the {scored} nodes.", ""]


def one_class_notes(metrics: EvaluationMetrics) -> list[str]:
    """Return a sentence for each model that predicts a single class for all scored nodes."""
    scored = "unseen" if metrics.setting == "inductive" else "test"
    models = {"teacher": metrics.teacher, "student": metrics.student}
    return [
        f"The {role} predicts the class {model.only_prediction!r} for every {scored} node: balanced accuracy "
        f"{_percent(model.test_balanced_accuracy)}. `class_weight: balanced`, in `training` and in `teacher.training`, "
        "weighs rare classes more."
        for role, model in models.items()
        if model is not None and model.only_prediction is not None
    ]


def recall_rows(metrics: EvaluationMetrics) -> list[tuple[str, ...]]:
    """Return the recall of each class on the scored test nodes by model: a row of titles, then one row per class.

    Empty for a run of a former version, without a scored model, and for more than 20 classes.
    """
    models = {"teacher": metrics.teacher, "student": metrics.student}
    found = {role: model.test_recalls for role, model in models.items() if model is not None and model.test_recalls}
    if not found or not metrics.classes or len(metrics.classes) > _MOST_CLASSES:
        return []
    rows = zip(metrics.classes, *found.values(), strict=True)
    return [("class", *found), *((str(name), *map(_percent, values)) for name, *values in rows)]


def _imbalance(metrics: RunMetrics) -> list[str]:
    lines = [line for note in one_class_notes(metrics) for line in (note, "")]
    models = _scored(metrics)
    if all(model.test_balanced_accuracy is None for _, model in models):
        return lines
    lines += ["| | balanced accuracy | macro F1 |", "|---|---|---|"]
    lines += [
        f"| {role} | {_percent(model.test_balanced_accuracy)} | {_percent(model.test_macro_f1)} |"
        for role, model in models
    ]
    rows = recall_rows(metrics)
    if rows:
        lines += ["", "Recall of each class:", "", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return [*lines, ""]


def render_report(metrics: RunMetrics, config: Mapping[str, Any]) -> str:
    """Return a Markdown summary of a run."""
    lines = [
        f"# {metrics.student.kind} from {metrics.teacher.kind} on {metrics.dataset}",
        "",
        f"{metrics.setting.capitalize()} setting, seed {metrics.seed}, {metrics.nodes:,} nodes, "
        f"{metrics.edges:,} edges. Epochs were chosen on validation nodes; test labels were read once, at the end.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in comparison_rows(metrics)),
        "",
        *_agreement(metrics),
        *_imbalance(metrics),
        "*One node* is the median time to answer for a single node, with all that must be fetched for it; "
        "*rows read* counts the stored rows behind one answer.",
        "",
    ]
    if metrics.setting == "inductive":
        lines += ["| | unseen nodes | observed test nodes | production (0.8 / 0.2) |", "|---|---|---|---|"]
        for role, model in _scored(metrics):
            cells = (model.test_accuracy, model.observed_test_accuracy, model.production_accuracy)
            lines.append(f"| {role} | " + " | ".join(_percent(value) for value in cells) + " |")
        lines.append("")
    lines += ["| stage | seconds |", "|---|---|"]
    lines += [f"| {stage} | {seconds:.2f} |" for stage, seconds in metrics.seconds.items()]
    lines += ["", "## Configuration", "", "```yaml", yaml.safe_dump(dict(config), sort_keys=False).rstrip(), "```", ""]
    return "\n".join(lines)

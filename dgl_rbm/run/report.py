"""Tables of a finished run, for a terminal or a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from dgl_rbm.run.metrics import RunMetrics, StudentMetrics, TeacherMetrics

__all__ = ["COLUMNS", "comparison_rows", "format_microseconds", "render_report"]

COLUMNS = ("", "test acc.", "val acc.", "parameters", "active", "one node", "rows read")


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

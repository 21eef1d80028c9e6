"""Summary of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgl_rbm.errors import command
from dgl_rbm.run.metrics import CandidateRecord, EvaluationMetrics, RunMetrics, Scores
from dgl_rbm.run.report import COLUMNS, comparison_rows, one_class_notes, recall_rows

__all__ = ["print_comparison", "print_scores", "title_of"]


def title_of(metrics: EvaluationMetrics) -> Text:
    """Return the line above a run's tables."""
    return Text(f"{metrics.dataset}, {metrics.setting}, seed {metrics.seed}")


def print_comparison(console: Console, metrics: RunMetrics, folder: Path, figure: Path | None = None) -> None:
    """Print teacher and student side by side, and the commands to run next."""
    table = Table(title=title_of(metrics), box=SIMPLE_HEAD, padding=0)
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in comparison_rows(metrics):
        table.add_row(*row)
    console.print(table)
    for what, candidates in (("encoder", metrics.encoder.candidates), ("student", metrics.candidates)):
        if candidates is not None:
            console.print(_candidates_table(candidates, what))
    scored = "unseen" if metrics.setting == "inductive" else "test"
    if metrics.agreement is not None:
        console.print(f"Teacher and student agree on {100 * metrics.agreement:.2f} % of the {scored} nodes.")
    for note in one_class_notes(metrics):
        console.print(note, soft_wrap=True)
    if figure is not None:
        console.print(f"Learning curves are drawn in {figure}.", soft_wrap=True)
    console.print(f"Saved in {folder}. Next:", soft_wrap=True)
    console.print(f"  {command('evaluate', folder)}", soft_wrap=True, highlight=False)
    console.print(
        f"  {command('predict', folder, 'rows.npy', '--out', 'predictions.csv')}", soft_wrap=True, highlight=False
    )


def _candidates_table(candidates: Sequence[CandidateRecord], what: str) -> Table:
    """Return how the candidates did among which validation chose; see `dgl_rbm.run.selection.choose`."""
    table = Table(title="Candidates on the validation nodes", box=SIMPLE_HEAD, padding=0)
    for i, column in enumerate((what, "accuracy", "loss", "active parameters")):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for record in candidates:
        if record.val_accuracy is None:
            table.add_row(record.kind, "diverged", "", "")
            continue
        scores = (f"{100 * record.val_accuracy:.2f} %", f"{record.val_loss:.3f}")
        table.add_row(record.kind, *scores, f"{record.active_parameters:,}")
    return table


def print_scores(console: Console, metrics: EvaluationMetrics) -> None:
    """Print every score of the student, and of the teacher if there is one."""
    table = Table(title=title_of(metrics))
    table.add_column("")
    models: dict[str, Scores] = {"student": metrics.student}
    if metrics.teacher is not None:
        models = {"teacher": metrics.teacher, **models}
    for role in models:
        table.add_column(role, justify="right")
    for name in Scores.model_fields:
        values = [getattr(model, name) for model in models.values()]
        if any(isinstance(value, float) for value in values):
            table.add_row(name.replace("_", " "), *("–" if value is None else f"{value:.4f}" for value in values))
    if metrics.agreement is not None:
        table.add_row("agreement", "", f"{metrics.agreement:.4f}")
    console.print(table)
    rows = recall_rows(metrics)
    if rows:
        by_class = Table(title="Recall of each class")
        for i, title in enumerate(rows[0]):
            by_class.add_column(title, justify="left" if i == 0 else "right")
        for row in rows[1:]:
            by_class.add_row(*row)
        console.print(by_class)
    for note in one_class_notes(metrics):
        console.print(note, soft_wrap=True)

"""Figure of a run: learning curves, and expert utilisation of students that route."""

from __future__ import annotations

from pathlib import Path

from dgl_rbm.evaluation.routing import routed_rows
from dgl_rbm.evaluation.scores import student_inputs
from dgl_rbm.experiments.plots import Line, colour_of, draw_lines, new_figure, save_figure
from dgl_rbm.run.run import Run
from dgl_rbm.training.routing_record import expert_utilisation

__all__ = ["FIGURE", "draw_run"]

FIGURE = "learning.png"
_PANELS = {"val_accuracy": "validation accuracy [%]", "val_loss": "validation loss [nats]"}


def draw_run(run: Run, folder: Path) -> Path:
    """Draw a run's figure into its folder, and return its path.

    Parameters
    ----------
    run : Run
        Its history, and its student on the validation nodes.
    folder : Path
        Of the run.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    shares = _utilisation(run)
    panels = len(_PANELS) + (shares is not None)
    figure, axes = new_figure(1, panels, width=4 * panels, height=3.2)
    for place, (value, label) in zip(axes[0], _PANELS.items(), strict=False):
        factor = 100 if value == "val_accuracy" else 1
        lines = []
        for stage in ("teacher", "student"):
            entries = [entry for entry in run.history if entry["stage"] == stage and value in entry]
            if entries:
                epochs = [entry["step"] for entry in entries]
                lines.append(Line(stage, epochs, [factor * entry[value] for entry in entries]))
        draw_lines(place, lines, title="", x_label="epoch", y_label=label, markers=False)
    if shares is not None:
        place = axes[0][-1]
        place.bar(range(len(shares)), [100 * share for share in shares], color=colour_of(0))
        place.axhline(100 / len(shares), color=colour_of(5), linewidth=1, linestyle="--")
        place.set(xlabel="expert of the last layer", ylabel="expert utilisation [%]")
        place.set_xticks(range(len(shares)))
    figure.suptitle(f"{run.metrics.student.kind} from {run.metrics.teacher.kind} on {run.metrics.dataset}")
    return save_figure(figure, folder / FIGURE)


def _utilisation(run: Run) -> list[float] | None:
    """Return each expert's share of the gates; None for students that do not route."""
    if not run.student.routers():
        return None
    rows = routed_rows(run.student, student_inputs(run.encodings, run.task, run.task.val_idx))
    shares: list[float] = expert_utilisation(rows.gates).tolist()
    return shares

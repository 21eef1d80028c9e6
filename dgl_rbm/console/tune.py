"""Output of `dgl-rbm tune`."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgl_rbm.console.progress import duration
from dgl_rbm.errors import command
from dgl_rbm.experiments.tuning.search import Trial
from dgl_rbm.experiments.tuning.tune import Tuning

__all__ = ["TrialLines", "best_as_json", "print_best"]

_SHOWN = 5


class TrialLines:
    """Prints a line for each trial."""

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.trials = console, trials
        self._first = True

    def __call__(self, number: int, trial: Trial) -> None:
        """Print a trial, counted from 0."""
        if self._first and number:
            self.console.print(f"{number} trials are kept from before.")
        self._first = False
        line = f"[{number + 1}/{self.trials}] {_score(trial)} ({duration(trial.seconds)}): {_options(trial)}"
        self.console.print(Text(line), soft_wrap=True)


def print_best(console: Console, result: Tuning, *, hidden: bool) -> None:
    """Print the best trials, and the first one, which is the configuration as it was given."""
    nodes = "held-out validation nodes" if hidden else "validation nodes"
    table = Table(title=f"Best on the {nodes}", title_justify="left")
    for title in ("trial", "accuracy", "loss", "options"):
        table.add_column(title, overflow="fold")
    ranked = sorted(enumerate(result.tried), key=lambda pair: pair[1].rank, reverse=True)[:_SHOWN]
    for number, trial in [*ranked, *([] if any(n == 0 for n, _ in ranked) else [(0, result.tried[0])])]:
        loss = "" if trial.loss is None else f"{trial.loss:.3f}"
        table.add_row(str(number + 1), _score(trial), loss, _options(trial, "\n"))
    console.print(table)
    best = result.out / "best.yaml"
    console.print(f"The best configuration is {best}. Its seeds chose it: report others. Next:", soft_wrap=True)
    console.print(f"  {command('distill', '--config', best, '--seed', '1')}", soft_wrap=True, highlight=False)


def best_as_json(result: Tuning) -> str:
    """Return the best trial and the number of trials."""
    return json.dumps({"trials": len(result.trials), **vars(result.best)}, indent=2)


def _options(trial: Trial, separator: str = ", ") -> str:
    return separator.join(f"{name}={_short(value)}" for name, value in trial.params.items()) or "as it stands"


def _score(trial: Trial) -> str:
    return f"failed: {trial.error}" if trial.accuracy is None else f"{100 * trial.accuracy:.2f} %"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""`dgl-rbm tune`: what it asks for, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgl_rbm.console.interrupt import terminated_as_by_ctrl_c
from dgl_rbm.console.progress import duration
from dgl_rbm.experiments.tuning.search import Search, Trial

__all__ = ["best_as_json", "print_best", "run_search"]

_SHOWN = 5


def run_search(
    console: Console, config: Any, *, seeds: Sequence[int], trials: int, space: Path | None, out: Path, hide: float
) -> Search:
    """Search from a resolved configuration; a line for each trial goes to `console`."""
    from dgl_rbm.experiments.tuning.space import default_space, read_space
    from dgl_rbm.runtime.folders import make_folder

    dimensions = default_space(config.student) if space is None else read_space(space)
    search = Search(config.to_values(), dimensions, seeds, out, hide)
    make_folder(out, "--out")
    if search.trials:
        console.print(f"{len(search.trials)} trials are kept from before.")

    def show(number: int, trial: Trial) -> None:
        what = ", ".join(f"{name}={_short(value)}" for name, value in trial.params.items()) or "as it stands"
        line = f"[{number + 1}/{trials}] {_score(trial)} ({duration(trial.seconds)}): {what}"
        console.print(Text(line), soft_wrap=True)

    with terminated_as_by_ctrl_c():
        search.run(trials, show)
    return search


def print_best(console: Console, search: Search) -> None:
    """Print the best trials beside the configuration as it stood."""
    nodes = "held-out validation nodes" if search.hide else "validation nodes"
    table = Table(title=f"Best on the {nodes}", title_justify="left")
    for title in ("trial", "accuracy", "loss", "options"):
        table.add_column(title, overflow="fold")
    ranked = sorted(enumerate(search.trials), key=lambda pair: pair[1].rank, reverse=True)[:_SHOWN]
    for number, trial in [*ranked, *([] if any(n == 0 for n, _ in ranked) else [(0, search.trials[0])])]:
        what = "\n".join(f"{name}={_short(value)}" for name, value in trial.params.items()) or "as it stands"
        table.add_row(str(number + 1), _score(trial), "" if trial.loss is None else f"{trial.loss:.3f}", what)
    console.print(table)
    best = search.out / "best.yaml"
    console.print(f"The best configuration is {best}. Its seeds chose it: report others. Next:", soft_wrap=True)
    console.print(f"  dgl-rbm distill --config {best} --seed 1", soft_wrap=True, highlight=False)


def best_as_json(search: Search) -> str:
    """Return the best trial and how many there were."""
    return json.dumps({"trials": len(search.trials), **vars(search.best)}, indent=2)


def _score(trial: Trial) -> str:
    return f"failed: {trial.error}" if trial.accuracy is None else f"{100 * trial.accuracy:.2f} %"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

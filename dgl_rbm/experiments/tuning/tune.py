"""Search for the options of a run on validation nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.experiments.options import as_seeds
from dgl_rbm.experiments.tuning.options import configured
from dgl_rbm.experiments.tuning.search import Search, Trial
from dgl_rbm.experiments.tuning.space import Space, as_space, default_space, read_space
from dgl_rbm.run.config import DistillConfig, resolve_config
from dgl_rbm.runtime.folders import make_folder

__all__ = ["Tuning", "tune"]


@dataclass(frozen=True)
class Tuning:
    """Result of a search.

    Attributes
    ----------
    tried : list of Trial
        In their order; the first is the configuration as it was given.
    best_config : DistillConfig
        Configuration of the best trial, also in the folder as ``best.yaml``.
    out : Path
        Folder of the search.
    """

    tried: list[Trial]
    best_config: DistillConfig
    out: Path

    @property
    def best(self) -> Trial:
        """The trial with the highest validation accuracy; ties go to the lowest loss, then to the first."""
        return max(self.tried, key=lambda trial: trial.rank)

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial.

        The columns are ``accuracy``, ``loss``, ``seconds``, ``error``, and each option that was searched, by its dotted
        path; these are empty in the first trial, which is the configuration as it was given.
        """
        searched = dict.fromkeys(name for trial in self.tried for name in trial.params)
        outcomes = ("accuracy", "loss", "seconds", "error")
        rows = [{name: getattr(trial, name) for name in outcomes} | trial.params for trial in self.tried]
        return pd.DataFrame(rows, columns=[*outcomes, *searched])


def tune(
    config: DistillConfig | Mapping[str, Any] | None = None,
    *,
    space: Space | Mapping[str, Any] | str | Path | None = None,
    trials: int = 30,
    seeds: int | str | Sequence[int] = (100, 101, 102),
    hide: float = 0.0,
    out: str | Path = "runs/tune",
    listener: Callable[[int, Trial], None] = lambda number, trial: None,
) -> Tuning:
    """Search for options on validation nodes; no trial reads a test label.

    A search that was stopped continues in the same folder. Report results on other seeds than those of the search.

    Parameters
    ----------
    config : DistillConfig or mapping, optional
        Configuration to start from, as `dgl_rbm.run.config.resolve_config` takes it.
    space : mapping or path, optional
        Dotted path to values, a list or ``{"low": ..., "high": ..., "log": ...}``; or a YAML file of these. By default
        the space of the paper's appendix C and a little more.
    trials : int
        Trials in total; the first is `config` itself.
    seeds : int, str or sequence of int
        Splits and starts that each trial is the mean of; see `dgl_rbm.experiments.options.as_seeds`.
    hide : float
        Share of the validation nodes, in ``[0, 1)``, on which alone trials are judged and no epoch is chosen.
    out : path
        Folder of the search.
    listener : callable
        Called with the number of each trial, from 0, and the trial.

    Returns
    -------
    Tuning

    Raises
    ------
    ConfigError
        If an option is wrong, or `out` contains another search.
    MissingDependencyError
        If Optuna is not installed.

    Examples
    --------
    >>> quick = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 3}}
    >>> start = {"dataset": "digits", "student": "mlp", "teacher": quick, "training": {"epochs": 3}}
    >>> result = tune(start, space={"student.dropout": [0.0, 0.5]}, trials=2, seeds=[100])
    >>> list(result.trials.columns)
    ['accuracy', 'loss', 'seconds', 'error', 'student.dropout']
    >>> result.best_config.student.kind
    'mlp'
    """
    resolved = config if isinstance(config, DistillConfig) else resolve_config(config or {})
    search = Search(resolved.to_values(), _space(space, resolved), as_seeds(seeds), Path(out), hide)
    make_folder(search.out, "--out")
    search.run(trials, listener)
    return Tuning(search.trials, configured(search.config, search.best.params), search.out)


def _space(space: Space | Mapping[str, Any] | str | Path | None, config: DistillConfig) -> Space:
    if space is None:
        return default_space(config.student)
    if isinstance(space, (str, Path)):
        return read_space(Path(space))
    return as_space(space)

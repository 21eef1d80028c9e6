"""Tries options on validation nodes; Optuna's tree-structured Parzen estimator chooses what to try next.

No trial reads a test label. What was tried lies in one file, from which a stopped search goes on as if it had not
stopped: each trial's choice depends on the trials before it and on its number alone.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dgl_rbm._version import __version__
from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.hold_out import hide_validation
from dgl_rbm.data.load import load_task
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ArtifactError, ConfigError, MissingDependencyError, TrainingError
from dgl_rbm.experiments.tuning.options import check_space, configured
from dgl_rbm.experiments.tuning.space import Choices, Space
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.fingerprint import dataset_digest, teacher_digest
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checked_json import read_checked_json, write_checked_json
from dgl_rbm.runtime.checkpoint import DAMAGED_JSON, write_atomic
from dgl_rbm.runtime.locks import locked
from dgl_rbm.runtime.seeding import derive_seed

__all__ = ["Search", "Trial"]

_FILE = "trials.json"
_LOCK = "trials.lock"


@dataclass(frozen=True)
class Trial:
    """One choice of options and what it reached.

    Attributes
    ----------
    params : dict
        Dotted path to value; nothing for the first trial, which is the configuration as it stands.
    accuracy, loss : float or None
        Means over the seeds on the validation nodes, or on those of them that are held out, of the kept epochs; None
        if training failed, or the options cannot be combined.
    accuracies : list of float
        By seed.
    seconds : float
        All seeds together.
    error : str or None
        Why there is no accuracy.
    """

    params: dict[str, Any]
    accuracy: float | None
    loss: float | None
    accuracies: list[float]
    seconds: float
    error: str | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The larger the better: accuracy first, then loss."""
        if self.accuracy is None or self.loss is None:
            return (-1.0, 0.0)
        return (self.accuracy, -self.loss)


class Search:
    """A search for options of one dataset and setting.

    Parameters
    ----------
    values : mapping
        The configuration to start from, as `dgl_rbm.run.config.resolve_config` takes it; its ``seed`` seeds the search.
    space : dict
        What may change.
    seeds : sequence of int
        Each trial is the mean over these splits and starts. Report results on other seeds than these.
    out : Path
        Folder for the trials, shared teachers and encodings, and the best configuration.
    hide : float
        Share of the validation nodes that are held out, in ``[0, 1)``: trials are judged by these alone, which in the
        inductive setting are hidden as unseen nodes are; see `dgl_rbm.data.hold_out.hide_validation`.
    callbacks : sequence of Callback
        Notified of each run's progress.

    Raises
    ------
    MissingDependencyError
        Without Optuna.
    ConfigError
        If an option of the space does not exist, cannot have a value or must not be tuned, or `out` contains
        another search.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        space: Space,
        seeds: Sequence[int],
        out: Path,
        hide: float = 0.0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.optuna = _optuna()
        if not 0 <= hide < 1:
            raise ConfigError(f"The share of validation nodes to hide is {hide}; expected at least 0 and less than 1.")
        self.hide = hide
        self.space, self.seeds, self.out = space, list(seeds), out
        self.callbacks = tuple(callbacks)
        self.config = resolve_config(values)
        check_space(space, self.config)
        self._tasks: dict[int, NodeTask] = {}
        self._tasks_of: ComponentConfig | None = None
        self.trials = self._read()

    @property
    def best(self) -> Trial:
        """The best trial so far; the first of equal ones."""
        return max(self.trials, key=lambda trial: trial.rank)

    def run(self, count: int, listener: Callable[[int, Trial], None] = lambda number, trial: None) -> Trial:
        """Go on until there are `count` trials; return the best of all.

        Parameters
        ----------
        count : int
            Trials in all, those of before included; the first is the configuration as it stands.
        listener : callable
            Called with the number of each trial, counted from 0, and the trial.
        """
        with self._alone():
            # Another process may have gone on since they were read.
            self.trials = self._read()
            while len(self.trials) < count:
                number = len(self.trials)
                trial = self._try(self._next() if number else {})
                self.trials.append(trial)
                self._write()
                listener(number, trial)
            # A search that was killed between its two files has no more trial to write it after.
            self._write_best()
        return self.best

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out of the folder: each trial is chosen from those before it."""
        self.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.out / _LOCK, wait=False, remove=True))
            except BlockingIOError:
                raise ConfigError(
                    f"Another process searches in '{self.out}'.", hint="Wait for it, or name another folder."
                ) from None
            yield

    def _try(self, params: dict[str, Any]) -> Trial:
        start = time.perf_counter()
        records: list[CandidateRecord] = []
        try:
            for seed in self.seeds:
                records.append(self._validated(params, seed))
        except (ConfigError, TrainingError) as error:
            # Options that are right each for itself may be impossible together. The first trial tries none.
            if isinstance(error, ConfigError) and not params:
                raise
            return Trial(params, None, None, [], time.perf_counter() - start, error.in_one_line)
        accuracies = [record.score for record in records if record.score is not None]
        loss = statistics.fmean(record.val_loss for record in records if record.val_loss is not None)
        return Trial(params, statistics.fmean(accuracies), loss, accuracies, time.perf_counter() - start)

    def _validated(self, params: Mapping[str, Any], seed: int) -> CandidateRecord:
        config = configured(self.config, params, seed)
        if config.dataset != self._tasks_of:
            self._tasks, self._tasks_of = {}, config.dataset
        if seed not in self._tasks:
            task = load_task(config.dataset, config.setting, seed)
            self._tasks[seed] = hide_validation(task, self.hide, seed) if self.hide else task
        task = self._tasks[seed]
        context = run_context(config, callbacks=self.callbacks, shared=self.out / "shared")
        return Pipeline(task, config, context).validate(task.test_labels() if self.hide else None)

    def _next(self) -> dict[str, Any]:
        """Return what to try, from the trials so far and their number."""
        sampler_seed = derive_seed(self.config.seed, f"trial {len(self.trials)}")
        with warnings.catch_warnings():
            # Of options that Optuna calls experimental.
            warnings.simplefilter("ignore")
            sampler = self.optuna.samplers.TPESampler(seed=sampler_seed, multivariate=True)
            study = self.optuna.create_study(direction="maximize", sampler=sampler)
            distributions = {name: self._distribution(dimension) for name, dimension in self.space.items()}
            for trial in self.trials[1:]:
                failed = trial.accuracy is None
                study.add_trial(
                    self.optuna.trial.create_trial(
                        params=trial.params,
                        distributions=distributions,
                        value=None if failed else trial.accuracy,
                        state=self.optuna.trial.TrialState.FAIL if failed else self.optuna.trial.TrialState.COMPLETE,
                    )
                )
            return dict(study.ask(distributions).params)

    def _distribution(self, dimension: Any) -> Any:
        kinds = self.optuna.distributions
        if isinstance(dimension, Choices):
            return kinds.CategoricalDistribution(dimension.choices)
        kind = kinds.IntDistribution if dimension.whole else kinds.FloatDistribution
        return kind(dimension.low, dimension.high, log=dimension.log)

    def _identity(self) -> str:
        space = {name: dimension.model_dump() for name, dimension in self.space.items()}
        files = [dataset_digest(self.config.dataset), teacher_digest(self.config.teacher)]
        parts = [__version__, self.config.to_values(), files, space, self.seeds, self.hide]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _read(self) -> list[Trial]:
        path = self.out / _FILE
        if not path.exists():
            return []
        try:
            kept = read_checked_json(path)
            identity, trials = kept["search"], [Trial(**trial) for trial in kept["trials"]]
        except OSError as error:
            raise ArtifactError(f"'{path}' cannot be read: {error.strerror}.") from None
        except DAMAGED_JSON as error:
            raise ConfigError(
                f"'{path}' is no file of trials, or is damaged: {error}.", hint="Remove it, or name another folder."
            ) from None
        if identity != self._identity():
            raise ConfigError(
                f"'{self.out}' holds a search of other options, seeds, space or files, or of another version.",
                hint="Name another folder, or give the options of that search.",
            )
        return trials

    def _write(self) -> None:
        kept = {"search": self._identity(), "seeds": self.seeds, "trials": [vars(trial) for trial in self.trials]}
        write_checked_json(self.out / _FILE, kept)
        self._write_best()

    def _write_best(self) -> None:
        if self.best.accuracy is None:
            return
        best = configured(self.config, self.best.params)
        write_atomic(self.out / "best.yaml", yaml.safe_dump(best.to_values(), sort_keys=False, allow_unicode=True))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingDependencyError(
            "The search needs Optuna, which is not installed.", hint="Install it with: pip install 'dgl-rbm[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

"""The exception tree: everything a user can cause is a `DglRbmError`.

Each error says what was wrong, where, what was expected, and which command or call to try next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DataError",
    "DatasetNotFoundError",
    "DglRbmError",
    "MissingDependencyError",
    "TimeBudgetError",
    "TrainingError",
    "UnknownNameError",
    "closest",
    "raise_problems",
]


class DglRbmError(Exception):
    """Base of all errors that a user of this package can cause.

    Parameters
    ----------
    message : str
        What was wrong and where, and what was expected.
    hint : str, optional
        What to do next: a command, a call, or an option to change.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n{hint}")


class ConfigError(DglRbmError, ValueError):
    """An option, a configuration file or an argument has a value that cannot be used."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A component, dataset or option name that does not exist.

    Parameters
    ----------
    what : str
        The kind of thing that was asked for, such as ``"student"``.
    name : str
        The name that was given.
    choices : iterable of str
        The names that exist.
    """

    def __init__(self, what: str, name: str, choices: Iterable[str], *, hint: str | None = None) -> None:
        known = sorted(choices)
        near = closest(name, known)
        guess = f" Did you mean '{near}'?" if near else ""
        super().__init__(f"There is no {what} '{name}'.{guess} Choices: {', '.join(known)}.", hint=hint)


class DataError(DglRbmError, ValueError):
    """A graph, its features, labels or masks, or a row to predict, cannot be used as they are."""

    exit_code = 2


class DatasetNotFoundError(DataError):
    """The files of a dataset are neither on disk nor to be downloaded."""

    exit_code = 1


class MissingDependencyError(DglRbmError, ImportError):
    """An optional package, or a part of DGL that this installation lacks, is needed."""


class ArtifactError(DglRbmError):
    """A saved run is missing, truncated, of another version, or does not match what was asked."""


class TrainingError(DglRbmError):
    """Training cannot go on, for example because the loss is no longer finite."""


class TimeBudgetError(DglRbmError):
    """The time that a run was given is used up; started again, it continues from what it has kept."""

    # EX_TEMPFAIL of sysexits.h: nothing is wrong, try again.
    exit_code = 75


def closest(name: str, choices: Sequence[str]) -> str | None:
    """Return the choice spelled most like `name`, or None where none is near."""
    found = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.6)
    return found[0] if found else None


def raise_problems(problems: Sequence[str], error: type[DglRbmError], subject: str, *, hint: str | None = None) -> None:
    """Raise `error` naming all `problems` at once; do nothing where there are none.

    Parameters
    ----------
    problems : sequence of str
        One sentence each.
    error : type of DglRbmError
        The class to raise.
    subject : str
        What has the problems, as the start of a sentence: ``"The graph 'mine'"``.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise error(f"{subject} cannot be used: {problems[0]}", hint=hint)
    listed = "\n".join(f"  {i}. {problem}" for i, problem in enumerate(problems, 1))
    raise error(f"{subject} cannot be used, for {len(problems)} reasons:\n{listed}", hint=hint)

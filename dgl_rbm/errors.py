"""Exception hierarchy: all errors that a user can cause are subclasses of `DglRbmError`.

Each message names the wrong value, its location and the expected one; the hint names a command or call to try next.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

__all__ = [
    "ArtifactError",
    "ArtifactWarning",
    "ConfigError",
    "DataError",
    "DataWarning",
    "DatasetNotFoundError",
    "DglRbmError",
    "DglRbmWarning",
    "MissingDependencyError",
    "TimeBudgetError",
    "TrainingError",
    "UnknownNameError",
    "closest",
    "command",
    "raise_problems",
    "shown",
    "warn",
]

# Frames of these modules stand between the package and its caller: decorators and cached properties.
_BETWEEN = ("contextlib", "functools")


class DglRbmError(Exception):
    """Base class of all errors that a user of this package can cause.

    Parameters
    ----------
    message : str
        The problem, its location, and the expected value.
    hint : str, optional
        Next step: a command, a call, or an option to change.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # Halves of surrogate pairs, in names from elsewhere, cannot be printed.
        message = message.encode("utf-8", "backslashreplace").decode()
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n{hint}")

    @property
    def in_one_line(self) -> str:
        """Message and hint as one text."""
        return self.message if self.hint is None else f"{self.message} {self.hint}"

    def as_problem(self) -> str:
        """Return message and hint as an entry of a list of problems."""
        return self.in_one_line[:1].lower() + self.in_one_line[1:]


class ConfigError(DglRbmError, ValueError):
    """Invalid value of an option, a configuration file or an argument."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """Unknown name of a component, dataset or option.

    Parameters
    ----------
    what : str
        Kind of the name, such as ``"student"``.
    name : str
        The unknown name.
    choices : iterable of str
        All known names.
    """

    def __init__(self, what: str, name: str, choices: Iterable[str], *, hint: str | None = None) -> None:
        known = sorted(choices)
        near = closest(name, known) if isinstance(name, str) else None
        guess = f" Did you mean '{near}'?" if near else ""
        super().__init__(f"There is no {what} {shown(name)}.{guess} Choices: {', '.join(known)}.", hint=hint)


class DataError(DglRbmError, ValueError):
    """Invalid graph, features, labels, masks, or rows to predict."""

    exit_code = 2


class DglRbmWarning(UserWarning):
    """Base class of the warnings of this package; commands print them as notes."""


class ArtifactWarning(DglRbmWarning):
    """A damaged file, whose content is computed again."""


class DataWarning(DglRbmWarning):
    """Data that was read in another form than it was given in, or is not used: renumbered labels, unknown fields."""


class DatasetNotFoundError(DataError):
    """The files of a dataset are missing and cannot be downloaded."""

    exit_code = 1


class MissingDependencyError(DglRbmError, ImportError):
    """A required optional package or part of DGL is not installed."""


class ArtifactError(DglRbmError):
    """A saved run is missing, truncated, of another version, or does not match the request."""


class TrainingError(DglRbmError):
    """Training cannot continue, for example because the loss is not finite."""


class TimeBudgetError(DglRbmError):
    """The time budget of a run is used up; the same command continues from its checkpoints."""

    # EX_TEMPFAIL of sysexits.h: temporary failure, try again.
    exit_code = 75


def closest(name: str, choices: Sequence[str]) -> str | None:
    """Return the choice whose spelling is closest to `name`, or None if none is similar."""
    found = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.6)
    return found[0] if found else None


def command(*words: str | os.PathLike[str]) -> str:
    """Return a command of this package for a hint, quoted for a shell.

    Parameters
    ----------
    *words : str or path
        What follows ``dgl-rbm``; a path that starts with ``-`` is written so that it is not read as an option.

    Examples
    --------
    >>> command("distill", "--out", Path("my run"))
    "dgl-rbm distill --out 'my run'"
    """
    texts = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    return shlex.join(["dgl-rbm", *texts])


def shown(value: object, most: int = 80) -> str:
    """Return the representation of a value for a message, cut to `most` characters."""
    try:
        text = repr(value)
    # Python refuses to write whole numbers of more than 4,300 digits; values of other packages raise anything.
    except Exception:
        return f"a {type(value).__name__}" if not isinstance(value, int) else "a number of more than 4,300 digits"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def raise_problems(problems: Sequence[str], error: type[DglRbmError], subject: str, *, hint: str | None = None) -> None:
    """Raise a single `error` that lists all `problems`; return if there are none.

    Parameters
    ----------
    problems : sequence of str
        One sentence each.
    error : type of DglRbmError
        Exception class.
    subject : str
        Start of the sentence: ``"The graph 'mine'"``.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise error(f"{subject} cannot be used: {problems[0]}", hint=hint)
    listed = "\n".join(f"  {i}. {problem}" for i, problem in enumerate(problems, 1))
    raise error(f"{subject} cannot be used, for {len(problems)} reasons:\n{listed}", hint=hint)


def warn(message: str, category: type[DglRbmWarning]) -> None:
    """Issue a warning that points to the line from which this package was called."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_ours(str(frame.f_globals.get("__name__"))):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "dgl_rbm" or module in _BETWEEN

"""Checked arguments of public functions: an unknown one is an error of the package that names the nearest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TypeVar

from typing_extensions import ParamSpec

from dgl_rbm.errors import ConfigError, UnknownNameError

__all__ = ["checked_arguments"]

P = ParamSpec("P")
R = TypeVar("R")


def checked_arguments(name: str, further: Iterable[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that checks the names of arguments before a call.

    Parameters
    ----------
    name : str
        Name of the function in errors.
    further : iterable of str
        Names that ``**options`` of the function stands for.

    Raises
    ------
    UnknownNameError
        If a call has an argument that the function does not take.
    ConfigError
        If a call lacks an argument, or has too many of them.
    """
    names = tuple(further)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = {each.name for each in signature.parameters.values() if each.kind in plain} - {"self"} | set(names)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            unknown = next((given for given in kwargs if given not in known), None)
            if unknown is not None:
                raise UnknownNameError(f"argument of {name}", unknown, known)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise ConfigError(
                    f"{name}: {error}.", hint=f"`help(dgl_rbm.{name})` describes the arguments."
                ) from None
            return function(*args, **kwargs)

        return call

    return decorate

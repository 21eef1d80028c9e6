"""Shared by all commands: consoles, error handling, and the configuration that options resolve to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from dgl_rbm.console.imports import INTERRUPTED
from dgl_rbm.console.loading import show_loading
from dgl_rbm.console.memory import explain_out_of_memory
from dgl_rbm.console.notes import warnings_as_notes
from dgl_rbm.console.streams import printable_everywhere
from dgl_rbm.errors import DglRbmError

__all__ = ["INTERRUPTED", "fail", "gather", "guarded", "kept_on_interrupt", "stderr", "stdout"]

F = TypeVar("F", bound=Callable[..., Any])
# 128 and the number of SIGPIPE.
BROKEN_PIPE = 141


def stdout() -> Console:
    """Return the console of results."""
    # Paths and names are printed as they are, brackets included.
    return Console(markup=False)


def stderr() -> Console:
    """Return the console of progress and errors."""
    return Console(stderr=True, markup=False)


def fail(message: str, hint: str | None, code: int) -> NoReturn:
    """Print an error without a traceback and exit."""
    console = stderr()
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text(hint, style="dim"), soft_wrap=True)
    raise typer.Exit(code)


def guarded(*libraries: str) -> Callable[[F], F]:
    """Print errors that a user can cause without a traceback: exit 2 for usage, 1 for failure, 130 for Ctrl-C.

    Warnings of this package are printed as notes.

    Parameters
    ----------
    *libraries : str
        Slow imports of the command, which a terminal shows; see `dgl_rbm.console.loading`.
    """
    return lambda function: _guarded(function, libraries)


def _guarded(function: F, libraries: Sequence[str]) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        printable_everywhere()
        try:
            with warnings_as_notes(stderr()):
                show_loading(stderr(), *libraries)
                result = function(*args, **kwargs)
            # A closed pipe shows here rather than while Python exits.
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader, such as `head`, has what it wanted.
            _discard_output()
        except DglRbmError as error:
            fail(error.message, error.hint, error.exit_code)
        except OSError as error:
            place = f"'{error.filename}': " if error.filename else ""
            fail(f"{place}{error.strerror or error}.", None, 1)
        except KeyboardInterrupt:
            stderr().print("Stopped.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            explained = explain_out_of_memory(error)
            if explained is None:
                raise
            fail(*explained, 1)

    return wrapper  # type: ignore[return-value]


def _discard_output() -> NoReturn:
    """Exit as programs do whose reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    raise typer.Exit(BROKEN_PIPE)


@contextmanager
def kept_on_interrupt(console: Console, what: str, folder: Path) -> Iterator[None]:
    """On Ctrl-C, print what is kept in which folder, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished {what} are kept in {folder}; the same command continues.", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


def gather(config: Path | None = None, overrides: list[str] | None = None, **options: Any) -> Any:
    """Resolve a configuration and check that its models fit into memory.

    Later sources override earlier ones: method, file, options, --set.

    Dataset, setting and teacher are taken from --set before all else, since the method's published settings depend on
    them.
    """
    from dgl_rbm.config import read_yaml
    from dgl_rbm.methods.apply import checked_recipe, method_values, with_lookups
    from dgl_rbm.run.config import resolve_config
    from dgl_rbm.run.sizes import check_sizes
    from dgl_rbm.specs import override_path, with_overrides

    values = read_yaml(config) if config is not None else {}
    split, method, recipe = (options.pop(name, None) for name in ("split", "method", "recipe"))
    values |= {name: value for name, value in options.items() if value is not None}
    if recipe is not None:
        checked_recipe(recipe)
    assignments = list(overrides or [])
    if method is not None:
        values, assignments = with_lookups(values, assignments)
        values = method_values(method, values, recipe)
    if split is not None:
        # After a graph, which takes the place of the one before, and before what --set says of the split itself.
        graphs = [i for i, assignment in enumerate(assignments, 1) if override_path(assignment) == "dataset"]
        assignments.insert(max(graphs, default=0), f'dataset.split="{split}"')
    resolved = resolve_config(with_overrides(values, assignments))
    check_sizes(resolved)
    return resolved

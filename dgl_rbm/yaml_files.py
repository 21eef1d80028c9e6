"""The one reader of YAML: plain values with text keys, within limits, and errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dgl_rbm.errors import ConfigError, command

__all__ = ["MOST_LEVELS", "parse_yaml", "read_yaml"]

# Limits of a file; those of this package and its users are a hundredth of them.
_MOST_BYTES = 2**20
_MOST_VALUES = 20_000
MOST_LEVELS = 20
_MOST_DIGITS = 40

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, without repeated keys, other keys than text, and types beside JSON's."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0
        # Values of each anchored node with all aliases in it expanded.
        self._sizes: dict[int, int] = {}
        self._under_way: list[int] = []
        self._checked: set[int] = set()

    def compose_node(self, parent: Any, index: Any) -> Any:
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        self._levels += 1
        if self._levels > MOST_LEVELS:
            raise _error(f"it is nested deeper than {MOST_LEVELS} levels", mark)
        self._under_way.append(0)
        node = super().compose_node(parent, index)
        inside = self._under_way.pop()
        self._levels -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise _error("a value refers to itself", mark)
            size = self._sizes[id(node)]
        else:
            size = self._sizes[id(node)] = 1 + inside
        if self._under_way:
            self._under_way[-1] += size
        if size > _MOST_VALUES or sum(self._under_way) > _MOST_VALUES:
            raise _error(f"it has more than {_MOST_VALUES:,} values, aliases expanded", mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag == _TIMESTAMP:
            # Options are no dates. One that exists is text.
            try:
                self.construct_yaml_timestamp(node)
            except ValueError as error:
                raise _error(str(error), node.start_mark) from None
            return node.value
        if node.tag not in _TAGS:
            raise _error(f"the tag '{node.tag}' is not supported", node.start_mark)
        return super().construct_object(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        # Once and before merging, since a mapping replaces keys that it merges.
        if id(node) not in self._checked:
            self._checked.add(id(node))
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: Any) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            text = getattr(key, "value", None)
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge") or not isinstance(text, str):
                shown = f"'{text}'" if isinstance(text, str) else "a list or mapping"
                raise _error(f"the key {shown} is no text; quote it", key.start_mark)
            if text in lines:
                raise _error(f"the key '{text}' stands in line {lines[text]} already", key.start_mark)
            lines[text] = key.start_mark.line + 1

    def construct_number(self, node: Any) -> int | float:
        if len(node.value) > _MOST_DIGITS:
            raise _error(f"a number has {len(node.value):,} characters, more than {_MOST_DIGITS}", node.start_mark)
        try:
            is_whole = node.tag.endswith(":int")
            return self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        except (ValueError, OverflowError, IndexError):
            raise _error(f"'{node.value}' is no number", node.start_mark) from None


# Of explicit tags too: `!!bool 3` is no bool.
def _construct_bool(loader: _Loader, node: Any) -> bool:
    if str(node.value).lower() not in loader.bool_values:
        raise _error(f"'{node.value}' is neither true nor false", node.start_mark)
    return bool(loader.construct_yaml_bool(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML text: mappings with text keys, lists, numbers, text, bools and None.

    Parameters
    ----------
    text : str
        One document.
    where : str
        Subject of errors: ``"The configuration file 'a.yaml'"``.

    Raises
    ------
    ConfigError
        If the text is not YAML, has a key twice or another key than text, a date that does not exist, a type beside
        those above, a number of more than 40 characters, a value that contains itself, more than 20 levels, or more
        than 20,000 values; names the line and column.
    """
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"{where} has {len(text):,} characters; expected at most {_MOST_BYTES:,}.")
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}{_place(error)} is not valid YAML: {_problem(error)}.") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        # PyYAML does not translate all errors of malformed escapes and tags.
        raise ConfigError(f"{where} is not valid YAML: {error}.") from None


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}," if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {chr(error.character)!r} at position {error.position} is not allowed"
    return getattr(error, "problem", None) or "it does not parse"


def read_yaml(path: str | Path, what: str = "configuration file") -> dict[str, Any]:
    """Read a YAML file with a mapping, called `what` in errors.

    Raises
    ------
    ConfigError
        If the file is missing, cannot be read, does not contain a mapping, or as for `parse_yaml`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        hint = f"`{command('init', path)}` writes one." if what == "configuration file" else None
        raise ConfigError(f"There is no {what} '{path}'.", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"The {what} '{path}' is a folder; expected a file.") from None
    except OSError as error:
        raise ConfigError(f"The {what} '{path}' cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        if len(content) <= _MOST_BYTES:
            raise ConfigError(f"The {what} '{path}' is not UTF-8 text: {error.reason} at byte {error.start}.") from None
        text = content.decode("latin-1")
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"The {what} '{path}' has more than {_MOST_BYTES:,} bytes.")
    values = parse_yaml(text, f"The {what} '{path}'")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"The {what} '{path}' contains a {type(values).__name__}, expected a mapping.")
    return values

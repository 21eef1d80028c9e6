"""Strict, immutable configuration: base classes, validation with readable errors, dotted overrides."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from dgl_rbm.errors import ConfigError, closest, command, shown
from dgl_rbm.yaml_files import MOST_LEVELS, parse_yaml, read_yaml

__all__ = ["ComponentConfig", "StrictConfig", "apply_overrides", "read_yaml", "validated"]

M = TypeVar("M", bound=BaseModel)

# Of whole numbers: sizes and counts beyond the first, and seeds beyond the second, overflow somewhere below.
_LARGEST, _LARGEST_SEED = 2**31 - 1, 2**63 - 1
_QUOTED = 80
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", re.ASCII)


class StrictConfig(BaseModel):
    """Base of all configs: frozen, unknown fields forbidden, defaults validated.

    Each field carries ``Field(description=...)``; the command line's help, the comments of generated YAML
    files and the reference in the documentation all come from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # Former name of a field to its name today: files written before a renaming are still read.
    former_names: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _accept_former_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not cls.former_names.keys() & values.keys():
            return values
        for former, name in cls.former_names.items():
            if former in values and name in values:
                raise ValueError(f"'{former}' is the former name of '{name}'; set '{name}' alone")
        return {cls.former_names.get(name, name): value for name, value in values.items()}

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_large_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        largest = _LARGEST_SEED if str(info.field_name).endswith("seed") else _LARGEST
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, int) and abs(part) > largest:
                raise ValueError(f"expected a number of at most {largest:,}")
        return value

    # Fields that hold paths.
    paths: ClassVar[Any] = ()

    def located(self) -> Self:
        """Return the config with all its paths made absolute, so that it can be read from any folder."""
        update = {name: _located(getattr(self, name), name in self.paths) for name in type(self).model_fields}
        return self.model_copy(update=update)


def _located(value: Any, is_path: bool) -> Any:
    if isinstance(value, StrictConfig):
        return value.located()
    if isinstance(value, list):
        return [_located(item, is_path) for item in value]
    if is_path and value is not None:
        return type(value)(Path(value).expanduser().absolute())
    return value


class ComponentConfig(StrictConfig):
    """Base of the configs that a registry resolves; subclasses narrow `kind` to a literal."""

    kind: str

    def options(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """Return the options by name, `kind` and those named in `without` left out.

        They are the keyword arguments of the component's module, so that `build` passes the one to the other.
        """
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind" and name not in without}

    def files(self) -> list[Path]:
        """Return the files that the component reads; missing ones are left out. Their content counts as an option."""
        return []


def validated(model: type[M], values: Mapping[str, Any], *, where: str, hint: str | None = None) -> M:
    """Build `model` from `values`; raise pydantic's errors as one `ConfigError`.

    Parameters
    ----------
    model : type of BaseModel
        The config class.
    values : mapping
        Field name to value, from YAML or from the user.
    where : str
        The path of these values in the whole configuration, such as ``"student"``.
    hint : str, optional
        Hint of errors; by default the command that lists the component's options.

    Raises
    ------
    ConfigError
        Naming every wrong field by its path, what was expected, and the nearest field name if a field does not exist.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        details = error.errors()
    except UnicodeEncodeError:
        raise ConfigError(f"{where or 'An option'} contains text that is not Unicode.") from None
    # Outside the handler, so that the user sees one error and no chain.
    conflicts = [detail["ctx"] for detail in details if detail["type"] == "conflict"]
    if conflicts:
        # Of components that are right each by itself; their config names what is wrong and what to do.
        raise ConfigError(
            "\n".join(conflict["problems"] for conflict in conflicts),
            hint="\n".join(conflict["hint"] for conflict in conflicts) or None,
        )
    problems = [_describe(detail, model, where) for detail in details]
    raise ConfigError(
        f"{len(problems)} wrong option{'s' if len(problems) > 1 else ''}:\n"
        + "\n".join(f"  {problem}" for problem in problems),
        hint=hint or _component_hint(where, values),
    )


def _component_hint(where: str, values: Mapping[str, Any]) -> str:
    kind = values.get("kind")
    if isinstance(kind, str):
        return f"`{command('components', where.split(' -> ')[0].rstrip('0123456789[]'), kind)}` lists its options."
    return f"`{command('init')}` writes a complete, commented configuration."


def _describe(detail: Any, model: type[BaseModel], where: str) -> str:
    location = [_cut(str(part)) for part in detail["loc"]]
    path = " -> ".join(part for part in [where, *location] if part)
    if detail["type"] == "extra_forbidden":
        fields = model.model_fields
        # The positions in lists have no names.
        for part in (part for part in location[:-1] if not part.isdecimal()):
            inner = fields[part].annotation if part in fields else None
            inner = get_args(inner)[0] if get_origin(inner) is list else inner
            fields = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
        names = sorted(fields)
        near = closest(location[-1], names)
        guess = f" Did you mean '{near}'?" if near else (f" Options: {', '.join(names)}." if names else "")
        return f"{path}: no such option.{guess}"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    got = "" if isinstance(given, (dict, BaseModel)) else f" (got {shown(given)})"
    near = None
    if detail["type"] == "literal_error" and isinstance(given, str):
        near = closest(given, re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return f"{path}: {message}{got}" + (f". Did you mean '{near}'?" if near else "")


def _cut(name: str) -> str:
    return name if len(name) <= _QUOTED else f"{name[: _QUOTED - 1]}…"


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `values` with dotted assignments applied.

    Parameters
    ----------
    values : mapping
        A nested configuration. A component given by its name (``student: rbm``) becomes a mapping when one of its
        options is set.
    overrides : iterable of str
        Such as ``"student.num_experts=6"``. The right side is parsed as YAML: ``[a, b]``, ``null``, ``1e-3``,
        ``true``.

    Raises
    ------
    ConfigError
        If an assignment has no ``=`` or an empty path, or goes through a value without options.
    """
    result: dict[str, Any] = _copy(values)
    for assignment in overrides:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        # As errors quote it.
        assignment = assignment if len(assignment) <= _QUOTED else f"{assignment[:_QUOTED]}…"
        if not equals or not all(keys):
            raise ConfigError(
                f"--set {assignment}: expected 'path.to.option=value'.",
                hint="Example: --set student.num_experts=6",
            )
        owner: Any = result
        for depth, key in enumerate(keys[:-1]):
            owner = _descend(owner, key, ".".join(keys[: depth + 1]), assignment)
        _put(owner, keys[-1], _scalar(text, assignment), assignment)
    return result


def _descend(owner: Any, key: str, path: str, assignment: str) -> Any:
    """Return the options under `key`; a component given by name becomes a mapping."""
    index = _position(owner, key, assignment)
    inner = owner.get(key) if isinstance(owner, dict) else owner[index]
    if inner is None:
        inner = {}
    elif isinstance(inner, str):
        inner = {"kind": inner}
    elif not isinstance(inner, (dict, list)):
        raise ConfigError(
            f"--set {assignment}: '{path}' is {shown(inner)}, which has no options.",
            hint="Example: --set student.num_experts=6",
        )
    _put(owner, key, inner, assignment)
    return inner


def _put(owner: Any, key: str, value: Any, assignment: str) -> None:
    owner[_position(owner, key, assignment)] = value


def _position(owner: Any, key: str, assignment: str) -> Any:
    if isinstance(owner, dict):
        return key
    if not key.isdecimal() or int(key) >= len(owner):
        first = assignment.partition("=")[0].replace(f".{key}", ".0", 1)
        raise ConfigError(
            f"--set {assignment}: '{key}' is not a position in a list of {len(owner)}.",
            hint=f"Positions are 0 to {len(owner) - 1}: --set {first}=VALUE" if owner else "The list is empty.",
        )
    return int(key)


def _copy(value: Any, depth: int = 0) -> Any:
    if depth > MOST_LEVELS:
        raise ConfigError("The configuration is nested too deeply, or refers to itself.")
    if isinstance(value, Mapping):
        return {key: _copy(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item, depth + 1) for item in value]
    return value


def _scalar(text: str, assignment: str) -> Any:
    try:
        value = parse_yaml(text, f"--set {assignment}: the value")
    except ConfigError as error:
        raise ConfigError(error.message, hint="Quote it: --set 'a.b=\"text\"'") from None
    # YAML 1.1 parses 1e-3 as text.
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value

"""Components and their options as plain values and commented YAML, generated from the config classes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dgl_rbm.errors import UnknownNameError
from dgl_rbm.registry import REGISTRIES
from dgl_rbm.run.config import DistillConfig

__all__ = ["commented_yaml", "component_summary", "find_components", "options_of"]


def component_summary(config: type[BaseModel]) -> str:
    """Return the first sentence of a config class's docstring."""
    text = " ".join((config.__doc__ or "").strip().split("\n\n")[0].split())
    return text.rstrip(".")


def type_name(annotation: Any) -> str:
    """Return a type in a readable form."""
    if annotation is type(None):
        return "null"
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        # Constraints such as bounds, which the description states.
        return type_name(arguments[0])
    origin = getattr(annotation, "__origin__", None)
    if arguments and str(annotation).startswith("typing.Literal"):
        return " | ".join(json.dumps(value).strip('"') for value in arguments)
    if arguments and origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    if arguments:
        return " | ".join(type_name(argument) for argument in arguments)
    return getattr(annotation, "__name__", str(annotation)).removeprefix("typing.")


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def options_of(config: type[BaseModel], prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield every option of a config class; those of nested sections have dotted names.

    Yields
    ------
    dict
        ``name``, ``type``, ``default``, ``required`` and ``description``.
    """
    for name, field in config.model_fields.items():
        if name == "kind":
            continue
        default = _default(field)
        if isinstance(default, BaseModel):
            yield from options_of(type(default), f"{prefix}{name}.")
            continue
        yield {
            "name": prefix + name,
            "type": type_name(field.annotation),
            "default": default,
            "required": field.is_required(),
            "description": field.description or "",
        }


def commented_yaml(config: DistillConfig) -> str:
    """Return `config` as YAML in which a comment explains every option."""
    lines = ["# Options of `dgl-rbm distill --config`; every value can also be set with --set path.to.option=value."]
    for name, field in DistillConfig.model_fields.items():
        value = getattr(config, name)
        lines += ["", *_comment(field.description or "", 0)]
        if name in REGISTRIES:
            lines += _comment(f"Choices: {', '.join(REGISTRIES[name].names())}.", 0)
        if isinstance(value, list):
            lines.append(f"{name}:")
            for part in value:
                lines += _section(part, 4, first="  - ")
        elif isinstance(value, BaseModel):
            lines.append(f"{name}:")
            lines += _section(value, 2)
        else:
            lines.append(f"{name}: {_yaml_value(value)}")
    return "\n".join(lines) + "\n"


def _section(config: BaseModel, indent: int, first: str = "") -> list[str]:
    lines: list[str] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if name == "kind":
            lines.append(f"{first or ' ' * indent}kind: {value}")
            continue
        lines += _comment(field.description or "", indent)
        if isinstance(value, BaseModel):
            lines.append(f"{' ' * indent}{name}:")
            lines += _section(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            lines.append(f"{' ' * indent}{name}:")
            for part in value:
                lines += _section(part, indent + 4, first=f"{' ' * (indent + 2)}- ")
        else:
            lines.append(f"{' ' * indent}{name}: {_yaml_value(value)}")
    return lines


def _comment(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, 110 - indent)]


def _yaml_value(value: Any) -> str:
    plain = json.loads(json.dumps(value, default=str)) if not isinstance(value, Mapping) else dict(value)
    return yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True).removesuffix("...\n").strip()


def find_components(name: str | None, component: str | None) -> list[tuple[str, str, type[BaseModel]]]:
    """Return the components selected by the arguments of ``dgl-rbm components``, as (kind, name, config class).

    Raises
    ------
    UnknownNameError
        If there is no such kind or component.
    """
    if name is None:
        wanted = [(kind, key) for kind, registry in REGISTRIES.items() for key in registry.names()]
    elif name.removesuffix("s") in REGISTRIES:
        kind = name.removesuffix("s")
        wanted = [(kind, key) for key in ([component] if component else REGISTRIES[kind].names())]
    else:
        wanted = [(kind, name) for kind, registry in REGISTRIES.items() if name in registry.names()]
        if not wanted or component is not None:
            every = {key for registry in REGISTRIES.values() for key in registry.names()}
            raise UnknownNameError("kind or component", name, every | set(REGISTRIES) | {"method"})
    return [(kind, key, REGISTRIES[kind].config_class(key)) for kind, key in wanted]

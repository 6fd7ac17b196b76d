"""From `app.toml`, or other plain data, to frozen dataclasses, refusing what nobody asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rarevoxel.config.app import AppConfig
from rarevoxel.config.require import require
from rarevoxel.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load_config(path: Path) -> AppConfig:
    """Read `app.toml`.

    Args:
        path: the file.

    Raises:
        ConfigError: naming the file and the entry when the file is missing, is not TOML, or has an unknown entry, a
            value of the wrong type or an impossible value.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file", "point --app at a folder with an app.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    config = build(AppConfig, raw, str(path))
    deepest = config.network.multiple
    for name, size in (("patch_size", config.training.patch_size), ("window", config.inference.window)):
        fits = all(n % deepest == 0 for n in size) and max(size) > deepest
        require(fits, f"{path}: {name} ({size}) must be multiples of {deepest}, one of them larger (network depth)")
    return config


def build(cls: type[T], raw: Mapping[str, Any], where: str) -> T:
    """Build the frozen dataclass `cls` from plain data, recursively, refusing what it has no field for.

    Raises:
        ConfigError: naming `where`, the entry, what was found and what was expected.
    """
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown entry {unknown}, expected some of {known}", "remove it or mend its name")
    try:
        return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in raw.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise (
            error if error.message.startswith(where) else ConfigError(f"{where}: {error.message}", error.hint)
        ) from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        _expect(isinstance(value, Mapping), where, value, "a table")
        return build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        _expect(isinstance(value, (list, tuple)), where, value, "a list")
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if get_origin(hint) is Mapping:
        _expect(isinstance(value, Mapping), where, value, "a table")
        return {key: _convert(get_args(hint)[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), where, value, "a number")
        return float(value)
    if hint is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), where, value, "a whole number")
    if hint is str:
        _expect(isinstance(value, str), where, value, "a string")
    return value


def _expect(condition: bool, where: str, value: Any, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{where}: found {value!r}, expected {expected}")

"""What `--conf` pairs of the command line mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConfigError

KEYS = ("models", "too_few", "precision", "train_after", "train_idle", "scoring")
"""What `--conf` takes."""


def with_conf(config: AppConfig, conf: Mapping[str, str]) -> AppConfig:
    """Return the configuration with what `--conf` says instead of `app.toml`.

    Args:
        config: of the app.
        conf: `--conf` pairs.

    Raises:
        ConfigError: for an unknown key or an impossible value.
    """
    unknown = sorted(set(conf) - {*KEYS, "server_mode"})
    if unknown:
        msg = f"--conf {unknown}: unknown key, expected one of {', '.join(KEYS)}"
        raise ConfigError(msg, "for example --conf models calf")
    if "too_few" in conf:
        config = replace(config, gate=replace(config.gate, too_few=conf["too_few"]))
    if "precision" in conf:
        config = replace(config, inference=replace(config.inference, precision=conf["precision"]))
    if "scoring" in conf:
        if conf["scoring"] not in ("on", "off"):
            raise ConfigError(f"--conf scoring {conf['scoring']!r}: expected 'on' or 'off'")
        config = replace(config, active=replace(config.active, scoring=conf["scoring"] == "on"))
    if "train_after" in conf:
        after = int(_number("train_after", conf["train_after"], "a whole number of corrections", whole=True))
        config = replace(config, auto_training=replace(config.auto_training, after=after))
    if "train_idle" in conf:
        idle = _number("train_idle", conf["train_idle"], "a number of minutes")
        config = replace(config, auto_training=replace(config.auto_training, idle_minutes=idle))
    return config


def _number(key: str, text: str, expected: str, *, whole: bool = False) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise ConfigError(f"--conf {key} {text!r}: expected {expected}", f"for example --conf {key} 10") from None


def chosen_models(config: AppConfig, conf: Mapping[str, str]) -> list[str]:
    """Return the models to offer.

    Args:
        config: of the app.
        conf: `--conf` pairs; `models` names some, joined by commas, or `all`.

    Raises:
        ConfigError: for an unknown model, or when none is named.
    """
    wanted = conf.get("models", "all")
    if wanted.strip().lower() == "all":
        return list(config.models)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    missing = [name for name in names if name not in config.models]
    if missing or not names:
        raise ConfigError(f"--conf models {wanted!r}: unknown model {missing}, expected some of {list(config.models)}")
    return names

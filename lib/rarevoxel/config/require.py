"""A check that every section makes of its values."""

from __future__ import annotations

from rarevoxel.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)

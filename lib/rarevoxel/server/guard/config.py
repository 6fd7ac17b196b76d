"""What `rarevoxel serve` hands over to the guard, by an environment variable that the training process inherits."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rarevoxel.errors import ConfigError

VARIABLE = "RAREVOXEL_GUARD"
MIB = 1 << 20


@dataclass(frozen=True)
class GuardConfig:
    """Settings of the guard; the defaults are those of a server for one person on one machine.

    Args:
        host: address the server listens on.
        studies: studies folder, so that its path can be kept out of logs and replies; empty when unknown.
        home: folder with `tokens.json`; empty for a server that knows no tokens.
        temporary: folder that uploads go to; empty for the system's.
        allow_hosts: further names a client may put into the `Host` header.
        allow_origins: web origins (`https://viewer.example`) whose pages may call the server.
        behind_proxy: whether a reverse proxy stands in front; then tokens are needed on the loopback address too.
        label_mib: largest upload of a label, in MiB.
        image_mib: largest upload of an image, in MiB.
        idle_seconds: how long a client may send nothing in the middle of a request body, in seconds.
        queue: how many inferences may wait while one runs.

    Raises:
        ConfigError: if a number is out of range.
    """

    host: str = "127.0.0.1"
    studies: str = ""
    home: str = ""
    temporary: str = ""
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    behind_proxy: bool = False
    label_mib: int = 256
    image_mib: int = 2048
    idle_seconds: float = 30.0
    queue: int = 8

    def __post_init__(self) -> None:
        for name, low, high in (("label_mib", 1, 65536), ("image_mib", 1, 65536), ("idle_seconds", 0.01, 3600)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} ({value}) must be {low:g} to {high}")
        if not 0 <= self.queue <= 1000:
            raise ConfigError(f"queue ({self.queue}) must be 0 to 1000")

    @property
    def tokens_file(self) -> Path | None:
        """Where the tokens are; None for a server without a home."""
        return Path(self.home) / "tokens.json" if self.home else None

    @property
    def must_have_tokens(self) -> bool:
        """Whether nobody gets in without a token, even while there is no tokens file."""
        return self.behind_proxy or not is_loopback(self.host)

    def to_json(self) -> str:
        """Return the settings as `from_json` reads them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> GuardConfig:
        """Read settings back.

        Raises:
            ConfigError: if the text is no such settings.
        """
        try:
            values = json.loads(text)
            lists = {key: tuple(values[key]) for key in ("allow_hosts", "allow_origins") if key in values}
            return cls(**{**values, **lists})
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{VARIABLE} holds no settings of the guard: {error}", "let rarevoxel serve set it"
            ) from error

    @classmethod
    def from_environment(cls) -> GuardConfig:
        """Return what `rarevoxel serve` has set, else the defaults."""
        text = os.environ.get(VARIABLE, "")
        return cls.from_json(text) if text else cls()


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address: `localhost`, `127.x.x.x` or `::1`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

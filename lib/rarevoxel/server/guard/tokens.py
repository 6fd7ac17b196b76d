"""Tokens: who may come in, and as what."""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from rarevoxel.errors import ConflictError, InputError, NotFoundError, UnavailableError, storage_error
from rarevoxel.volumes import replace_file

PREFIX = "rv_"
DAY = 86400.0
_NAME = re.compile(r"[A-Za-z0-9][\w.\-@]{0,63}", re.ASCII)


class Role(enum.IntEnum):
    """What a token allows; each role may do what those before it may."""

    VIEW = 1
    ANNOTATE = 2
    TRAIN = 3
    ADMIN = 4

    @classmethod
    def named(cls, name: str) -> Role:
        """Return the role of a name.

        Raises:
            InputError: listing the roles.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            msg = f"no role {name!r}, expected one of {', '.join(r.name.lower() for r in cls)}"
            raise InputError(msg) from None


@dataclass(frozen=True)
class Token:
    """One entry of the tokens file; the token itself is nowhere on disk.

    Attributes:
        name: who it was given to; labels carry this name.
        role: name of a `Role`.
        sha256: of the token.
        created: seconds since 1970, UTC.
        expires: seconds since 1970, UTC.
    """

    name: str
    role: str
    sha256: str
    created: float
    expires: float

    def allows(self, role: Role) -> bool:
        """Say whether this token is good for something that needs `role`."""
        return Role.named(self.role) >= role

    def expired(self, now: float | None = None) -> bool:
        """Say whether its time is over."""
        return (time.time() if now is None else now) >= self.expires


class TokenStore:
    """The tokens of one home, read again whenever the file has changed.

    Args:
        path: the tokens file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()
        self._lock = threading.Lock()

    def exists(self) -> bool:
        """Say whether tokens are in use; a file from which all were revoked still counts."""
        return self.path.exists()

    def tokens(self) -> tuple[Token, ...]:
        """Return the tokens, expired ones too.

        Raises:
            UnavailableError: if the file cannot be read; nobody is let in on a file that is torn.
        """
        with self._lock:
            try:
                found = self.path.stat()
                seen = (found.st_mtime_ns, found.st_size, found.st_ino)
                if seen != self._seen:
                    self._tokens, self._seen = _parse(self.path.read_bytes()), seen
            except FileNotFoundError:
                self._tokens, self._seen = (), None
            except (OSError, ValueError, TypeError, KeyError) as error:
                msg = f"the tokens file cannot be read ({type(error).__name__}), so nobody is let in"
                raise UnavailableError(msg, "restore tokens.json, or remove it and make new tokens") from error
            return self._tokens

    def find(self, token: str) -> Token | None:
        """Return the entry of a token that is not expired; every entry is compared, in constant time."""
        digest = _digest(token)
        found = None
        for entry in self.tokens():
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return None if found is None or found.expired() else found

    def add(self, name: str, role: Role, days: float) -> str:
        """Make a token.

        Args:
            name: who it is for; letters, digits and `_-.@`.
            role: what it allows.
            days: how long it is good for, above 0, at most 3650.

        Returns:
            The token: 256 random bits. It is shown once and cannot be recovered.

        Raises:
            InputError: for an impossible name or time.
            ConflictError: if the name has a token.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"token name {name!r}: expected letters, digits, '_', '-', '.', '@', at most 64")
        if not 0 < days <= 3650:
            raise InputError(f"a token for {days:g} days, expected more than 0 and at most 3650")
        token = PREFIX + secrets.token_urlsafe(32)
        now = time.time()
        with self._changing() as tokens:
            if any(entry.name == name for entry in tokens):
                raise ConflictError(f"{name} has a token already", f"revoke it first: rarevoxel token revoke {name}")
            tokens.append(Token(name, role.name.lower(), _digest(token), now, now + days * DAY))
        return token

    def revoke(self, name: str) -> Token:
        """Remove a token; a running server notices at once.

        Raises:
            NotFoundError: if nobody of that name has one.
        """
        with self._changing() as tokens:
            for entry in tokens:
                if entry.name == name:
                    tokens.remove(entry)
                    return entry
            # Raised in here, so that nothing is written: an empty tokens file would lock everybody out.
            known = ", ".join(entry.name for entry in tokens) or "none"
            raise NotFoundError(f"no token of {name!r}, there are: {known}", "rarevoxel token list")

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        before = os.umask(0o077)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                tokens = list(self.tokens())
                yield tokens
                content = {"tokens": [asdict(entry) for entry in tokens]}
                replace_file(self.path, json.dumps(content, indent=2).encode())
                self.path.chmod(0o600)
        except OSError as error:
            raise storage_error(error, "writing the tokens") from error
        finally:
            os.umask(before)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _parse(content: bytes) -> tuple[Token, ...]:
    tokens = tuple(Token(**entry) for entry in json.loads(content)["tokens"])
    for entry in tokens:
        Role.named(entry.role)
    return tokens

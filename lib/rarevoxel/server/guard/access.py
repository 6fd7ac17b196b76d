"""Whether a request may come in: its token, and how often its address has tried in vain."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from rarevoxel.errors import BusyError, ForbiddenError, UnauthorizedError
from rarevoxel.server.guard.config import GuardConfig, is_loopback
from rarevoxel.server.guard.tokens import Role, Token, TokenStore

FAILURES = 20
WINDOW = 60.0
"""After `FAILURES` wrong tokens within `WINDOW` seconds an address has to wait; a right token always passes."""

_ADDRESSES = 1024
_HINT = "send the header Authorization: Bearer TOKEN; an administrator makes one with rarevoxel token add"


class TooManyAttemptsError(BusyError):
    """Too many wrong tokens from one address."""

    code = "too_many_attempts"
    retry_after = WINDOW


class Access:
    """Decides by the tokens of a home.

    Args:
        config: settings.
        clock: seconds, for tests.
    """

    def __init__(self, config: GuardConfig, clock: Callable[[], float] = time.monotonic) -> None:
        path = config.tokens_file
        self.store = TokenStore(path) if path is not None else None
        self.config = config
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def closed(self) -> bool:
        """Say whether tokens are needed: there is a tokens file, or others than this machine reach the server."""
        return self.config.must_have_tokens or (self.store is not None and self.store.exists())

    def admit(self, authorization: str, role: Role | None, address: str, *, browser: bool = False) -> Token | None:
        """Let a request in or not.

        Args:
            authorization: the header's value.
            role: what is needed; None for what is open.
            address: where the request came from.
            browser: whether a token may also come as the password that a browser asks for (`Basic`).

        Returns:
            The token's entry; None where none was needed.

        Raises:
            UnauthorizedError: without a good token where one is needed.
            ForbiddenError: when its role does not suffice.
            TooManyAttemptsError: after many wrong ones.
            UnavailableError: when the tokens file is torn.
        """
        if role is None:
            return None
        if not self.closed():
            # A proxy on this machine brings in strangers; the server tells by where it says they come from.
            if address and not is_loopback(address):
                raise UnauthorizedError("requests from other machines need a token", _HINT)
            return None
        token = self.check(_as_bearer(authorization) if browser else authorization, address)
        if not token.allows(role):
            msg = f"this needs the role {role.name.lower()}, the token of {token.name} has {token.role}"
            raise ForbiddenError(msg, "ask an administrator for a token with that role")
        return token

    def check(self, authorization: str, address: str) -> Token:
        """Return the entry of the bearer token in a header.

        Raises:
            UnauthorizedError: if there is none, or it is wrong, revoked or expired.
            TooManyAttemptsError: after many wrong ones.
        """
        scheme, _, value = authorization.partition(" ")
        if not authorization or scheme.lower() != "bearer" or not value.strip():
            raise UnauthorizedError("no token in the request", _HINT)
        return self.check_token(value.strip(), address)

    def check_token(self, value: str, address: str) -> Token:
        """Return the entry of a token.

        Raises:
            UnauthorizedError: if it is wrong, revoked or expired.
            TooManyAttemptsError: after many wrong ones.
        """
        token = self.store.find(value) if self.store is not None else None
        if token is not None:
            return token
        self._count(address)
        raise UnauthorizedError("the token is unknown, revoked or expired", _HINT)

    def _count(self, address: str) -> None:
        now = self._clock()
        recent = [at for at in self._failures.pop(address, []) if now - at < WINDOW]
        self._failures[address] = [*recent, now][-FAILURES - 1 :]
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)
        if len(recent) >= FAILURES:
            error = TooManyAttemptsError(f"{FAILURES} wrong tokens within {WINDOW:.0f} s", "wait a minute")
            error.retry_after = float(math.ceil(WINDOW - (now - recent[0])))
            raise error


def _as_bearer(authorization: str) -> str:
    """Return the header of a browser that asked for name and password as one with a token; any other as it is."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        _, _, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return ""
    return f"Bearer {password}"

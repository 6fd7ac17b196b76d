"""Which names a server answers to, and whose web pages may call it: against DNS rebinding and foreign pages."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from rarevoxel.errors import ForbiddenError
from rarevoxel.server.guard.config import GuardConfig

_LOCAL = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")


def host_of(header: str) -> str:
    """Return the host of a `Host` header or an origin's authority, without port, lower-case; `""` if it is none."""
    try:
        found = urlsplit(f"//{header.strip()}")
        _ = found.port
    except ValueError:
        return ""
    if found.username is not None or found.path or found.query:
        return ""
    return (found.hostname or "").rstrip(".")


def check_host(header: str, config: GuardConfig, server: tuple[str, int | None] | None) -> None:
    """Raise unless a request is meant for this server.

    A page that has its own name resolve to this machine (DNS rebinding) sends that name; an address in digits that
    the connection really came to cannot be forged this way.

    Args:
        header: the `Host` header.
        config: settings.
        server: address and port the connection came to.

    Raises:
        ForbiddenError: for any other name.
    """
    host = host_of(header)
    allowed = {*_LOCAL, *(name.lower() for name in config.allow_hosts)}
    if config.host not in _ANY:
        allowed.add(config.host.strip("[]").lower())
    if host in allowed or (host and server is not None and _same_address(host, str(server[0]))):
        return
    msg = f"the Host header names {ascii(host[:80]) if host else 'nothing'}, which is not this server"
    raise ForbiddenError(msg, "use the address the server listens on, or start it with --allow-host NAME")


def check_origin(headers: Mapping[str, str], method: str, config: GuardConfig) -> str:
    """Raise if a foreign web page sent the request.

    Args:
        headers: of the request, lower-case names.
        method: HTTP method.
        config: settings.

    Returns:
        The origin that has to be named in the reply for its page to read it; `""` for none.

    Raises:
        ForbiddenError: for an origin that is neither the server's own nor allowed.
    """
    origin = headers.get("origin", "")
    if origin:
        if origin.lower() in _lower(config.allow_origins):
            return origin
        scheme, _, authority = origin.partition("://")
        if scheme in ("http", "https") and authority.lower() == headers.get("host", "").lower():
            return ""
        msg = "a web page of another origin sent this request"
        raise ForbiddenError(msg, "start the server with --allow-origin ORIGIN if you trust that page")
    navigation = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
    if headers.get("sec-fetch-site") == "cross-site" and not navigation:
        raise ForbiddenError("a web page of another site sent this request", "open the server's own address")
    return ""


def allow_headers(origin: str, methods: Collection[str] = ()) -> list[tuple[bytes, bytes]]:
    """Return the headers that let an allowed origin read a reply; with `methods`, the answer to a preflight."""
    found = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
    if methods:
        found += [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-allow-headers", b"authorization, content-type, if-match, x-request-id"),
            (b"access-control-expose-headers", b"etag, x-request-id, retry-after"),
            (b"access-control-max-age", b"600"),
        ]
    return found


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of an ASGI scope; of one sent twice, all values, joined by commas."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _same_address(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def _lower(origins: Collection[str]) -> set[str]:
    return {origin.rstrip("/").lower() for origin in origins}

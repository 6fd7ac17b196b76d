"""The ASGI application that stands around the host's."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from rarevoxel.errors import MalformedError, NotFoundError, RareVoxelError, TooLargeError, UnauthorizedError
from rarevoxel.server.guard.access import Access
from rarevoxel.server.guard.bodies import HEADERS, Body, Receive, body_limit
from rarevoxel.server.guard.config import GuardConfig
from rarevoxel.server.guard.metrics import Metrics
from rarevoxel.server.guard.names import check_name
from rarevoxel.server.guard.origins import allow_headers, check_host, check_origin, headers_of
from rarevoxel.server.guard.redact import Redactor, request_id
from rarevoxel.server.guard.replies import SECURITY, Headers, Message, Send, error_reply, json_reply
from rarevoxel.server.guard.routes import Rule, check_path, check_query, find_rules
from rarevoxel.server.guard.turns import Turns

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

USER = "rarevoxel.user"
"""Key of the scope under which the inner application finds the name of the token; `""` on an open server."""
OPEN = "rarevoxel.open"
"""Key of the scope that says whether the server needs no tokens, so that everybody works on this machine."""

_ID = re.compile(r"[A-Za-z0-9\-]{8,64}", re.ASCII)


class MethodError(RareVoxelError):
    """A method that a path does not have."""

    code = "http_405"
    status = 405


class UnknownPathError(NotFoundError):
    """A path that this server does not have."""

    code = "http_404"


class Guard:
    """Lets in what belongs here, and answers everything else in one form.

    Args:
        inner: the application to guard.
        config: settings.
        turns: the inference queue, for the metrics and the end.

    Attributes:
        redactor: takes paths and names out of errors.
        metrics: what was counted.
    """

    def __init__(self, inner: Application, config: GuardConfig, turns: Turns | None = None) -> None:
        self.inner = inner
        self.config = config
        self.turns = turns or Turns(config.queue)
        self.access = Access(config)
        self.metrics = Metrics(self.turns)
        self.redactor = Redactor.of(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
        elif scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        else:
            await send({"type": "websocket.close", "code": 1008})


class _Exchange:
    """One request and its reply."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.scope, self._send = guard, scope, send
        self.headers = headers_of(scope)
        self.method: str = scope["method"]
        self.rule: Rule | None = None
        self.origin = ""
        self.user = ""
        self.case = ""
        self.status = 0
        self.body = Body(receive, 0, guard.config.idle_seconds)
        self._receive = receive
        given = self.headers.get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex[:16]

    async def run(self) -> None:
        started = time.monotonic()
        reset = request_id.set(self.id)
        try:
            await self._answer()
        except RareVoxelError as error:
            await self._refuse(error)
        except Exception as error:
            await self._failed(error)
        finally:
            self._account(time.monotonic() - started)
            request_id.reset(reset)

    async def _answer(self) -> None:
        if sum(len(name) + len(value) for name, value in self.scope["headers"]) > HEADERS:
            raise TooLargeError(f"the headers have more than {HEADERS} bytes", "send fewer or shorter headers")
        path = str(self.scope["path"])
        check_path(path)
        config = self.guard.config
        check_host(self.headers.get("host", ""), config, self.scope.get("server"))
        self.origin = check_origin(self.headers, self.method, config)
        rules, names = find_rules(path)
        if self.origin and self.method == "OPTIONS" and rules:
            await self._preflight(rules)
            return
        self.rule = _pick(rules, self.method)
        address = (self.scope.get("client") or ("", 0))[0]
        # Pages that only show: a browser sends a password by itself, so it opens nothing that changes anything.
        authorization = self.headers.get("authorization", "")
        token = self.guard.access.admit(authorization, self.rule.role, address, browser=self.rule.page)
        self.user = token.name if token else ""
        for what, value in names.items():
            check_name(what, value)
        query = check_query(self.rule, self.scope.get("query_string", b""))
        if not query.get("session_id"):
            self.case = next((query[key] for key in ("image", "label", "id") if query.get(key)), "")
        self.body = Body(self._receive, body_limit(self.rule.body, config), config.idle_seconds)
        self.body.check_length(self.headers.get("content-length", ""))
        if self.rule.path.startswith("/auth/"):
            await self._auth(self.rule, address)
            return
        # Everything is sent whole: a range that cannot be parsed is answered by the host in a form of its own.
        headers = [(name, value) for name, value in self.scope["headers"] if name != b"range"]
        scope = {**self.scope, "headers": headers, USER: self.user, OPEN: not self.guard.access.closed()}
        await self.guard.inner(scope, self.body.receive, self.send)
        if self.body.error is not None and not self.status:
            raise self.body.error

    async def send(self, message: Message) -> None:
        """Pass a message of the reply on, with the headers that every reply has."""
        if self.body.error is not None and not self.status:
            # The inner application only knows that reading failed; the guard knows why, and answers afterwards.
            return
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            own = {name.lower() for name, _ in message.get("headers", [])}
            added: Headers = [(b"x-request-id", self.id.encode())]
            length = self.headers.get("content-length", "0")
            if self._body_is_coming(length) and not await self.body.drain(length) and b"connection" not in own:
                added.append((b"connection", b"close"))
            added += [(name, value) for name, value in SECURITY if name not in own]
            if self.origin:
                added += allow_headers(self.origin)
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)

    async def _refuse(self, error: RareVoxelError) -> None:
        if self.status:
            logger.warning("the reply was cut short: %s", error)
            return
        # What is left of a large body is taken, within bounds (`Body.drain`); who stopped sending is not waited for.
        more = {"Connection": "close"} if error.status == 408 else {}
        if isinstance(error, MethodError):
            more["Allow"] = error.hint
        if isinstance(error, UnauthorizedError) and self.rule is not None and self.rule.page:
            more["WWW-Authenticate"] = 'Basic realm="rarevoxel: the password is the token", charset="UTF-8"'
        self.body.error = None
        await self._put(error_reply(error, self.guard.redactor.clean_deep, more))

    async def _failed(self, error: Exception) -> None:
        """Answer what nobody foresaw; the inner application has its own answers, so this is rare."""
        if self.body.error is not None:
            await self._refuse(self.body.error)
            return
        if self.status or self.body.gone:
            logger.info("%s %s ended by %s", self.method, self._route, type(error).__name__)
            return
        logger.error("unexpected error in %s %s", self.method, self._route, exc_info=error)
        msg = f"unexpected {type(error).__name__} while answering {self.method} {self._route}"
        await self._put(
            error_reply(RareVoxelError(msg, "the server log has the details"), self.guard.redactor.clean_deep)
        )

    async def _preflight(self, rules: Mapping[str, Rule]) -> None:
        await self.send(
            {"type": "http.response.start", "status": 204, "headers": allow_headers(self.origin, rules)[2:]}
        )
        await self.send({"type": "http.response.body", "body": b""})

    async def _auth(self, rule: Rule, address: str) -> None:
        """Answer what the annotation tool's log-in asks: the password is the token."""
        access = self.guard.access
        if not access.closed():
            # Clients take a 404 here for a server without tokens.
            raise UnknownPathError("this server needs no tokens")
        if rule.path == "/auth/":
            await self._put(json_reply(200, {"enabled": True, "client_id": "rarevoxel", "realm": ""}))
            return
        if rule.path == "/auth/token/valid":
            entry = access.check(self.headers.get("authorization", ""), address)
            await self._put(json_reply(200, {"username": entry.name, "name": entry.name, "roles": [entry.role]}))
            return
        form = await self._form()
        password = form.get("password", "")
        if not password:
            raise UnauthorizedError("no password in the form", "the password is the token")
        access.check_token(password, address)
        await self._put(json_reply(200, {"access_token": password, "token_type": "bearer"}))

    async def _form(self) -> dict[str, str]:
        content = b""
        while True:
            message = await self.body.receive()
            content += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                break
        try:
            return {key: values[-1] for key, values in parse_qs(content.decode("utf-8"), max_num_fields=16).items()}
        except ValueError as error:
            raise MalformedError("the form cannot be read", "send username and password, URL-encoded") from error

    async def _put(self, reply: tuple[Message, Message]) -> None:
        for message in reply:
            await self.send(message)

    def _body_is_coming(self, length: str) -> bool:
        """Say whether the client is still sending; one that asks first (`Expect`) does not send what is refused."""
        sends = "transfer-encoding" in self.headers or length != "0"
        return sends and not self.body.done and not self.body.gone and "expect" not in self.headers

    @property
    def _route(self) -> str:
        return self.rule.path if self.rule else "unmatched"

    def _account(self, seconds: float) -> None:
        # 499 is what proxies write down for a client that has hung up.
        status = self.status or 499
        self.guard.metrics.count(self.method if self.rule else "other", self._route, status, seconds)
        who, case = f" user={self.user}" if self.user else "", f" case={self.case}" if self._case_is_known() else ""
        quiet = self._route in ("/health", "/metrics", "/auth/") and status < 400
        level = logging.DEBUG if quiet else logging.INFO
        logger.log(level, "%s %s -> %d in %.0f ms%s%s", self.method, self._route, status, 1000 * seconds, case, who)

    def _case_is_known(self) -> bool:
        return bool(self.case) and self.status < 400


def _pick(rules: Mapping[str, Rule], method: str) -> Rule:
    if not rules:
        raise UnknownPathError("this server has no such path", "GET /docs lists what there is")
    if method not in rules:
        # The hint doubles as the Allow header.
        raise MethodError(f"this path has no method {method[:16]!a}", ", ".join(sorted(rules)))
    return rules[method]

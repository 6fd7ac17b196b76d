"""Every request the server answers: who may send it, what its query may hold, how large its body may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from rarevoxel.errors import MalformedError
from rarevoxel.server.guard.names import Check, check_flag, check_free, check_name, matching, number, one_of
from rarevoxel.server.guard.tokens import Role

VIEW, ANNOTATE, TRAIN, ADMIN = Role.VIEW, Role.ANNOTATE, Role.TRAIN, Role.ADMIN

_QUERY_FIELDS = 32
_CHECKSUM = matching(r"((SHA256|SHA512|MD5):)?[0-9a-fA-F]{32,128}", "a checksum such as SHA256:<64 hex digits>")


@dataclass(frozen=True)
class Rule:
    """One method of one path.

    Attributes:
        method: HTTP method.
        path: template such as `/infer/{model}`; parts in braces are checked as names.
        role: what a token has to allow; None for what is open to everybody.
        query: query parameters that are allowed, each with its check.
        body: `small` (JSON and forms), `label` or `image`: which limit counts.
        page: whether people open it in a browser, which then asks for the token; only for what shows and changes
            nothing.
    """

    method: str
    path: str
    role: Role | None
    query: Mapping[str, Check] = field(default_factory=dict)
    body: str = "small"
    page: bool = False


_IMAGE = {"image": check_name}
_LABEL = {"label": check_name, "tag": check_name}
_STATUS: dict[str, Check] = {"all": check_flag, "check_if_running": check_flag}

RULES: tuple[Rule, ...] = (
    Rule("GET", "/health", None),
    Rule("GET", "/auth/", None),
    Rule("POST", "/auth/token", None),
    Rule("GET", "/auth/token/valid", None),
    Rule("GET", "/", VIEW),
    Rule("GET", "/docs", VIEW),
    Rule("GET", "/openapi.json", VIEW),
    Rule("GET", "/metrics", VIEW),
    Rule("GET", "/info/", VIEW),
    Rule("GET", "/dashboard", VIEW, {"queue": number(1, 99_999), "labels": number(1, 99_999)}, page=True),
    Rule("GET", "/dashboard/cases/{case}", VIEW, page=True),
    Rule("GET", "/dashboard/cases/{case}/picture", VIEW, page=True),
    Rule("GET", "/dashboard/cases/{case}/thumbnail", VIEW, page=True),
    Rule("GET", "/dashboard/runs/{model}/{run}", VIEW, page=True),
    Rule("GET", "/datastore/", VIEW, {"output": one_of("all", "stats")}),
    Rule("GET", "/datastore/image", VIEW, _IMAGE),
    Rule("HEAD", "/datastore/image", VIEW, {**_IMAGE, "check_sum": _CHECKSUM}),
    Rule("GET", "/datastore/image/info", VIEW, _IMAGE),
    Rule("GET", "/datastore/label", VIEW, _LABEL),
    Rule("HEAD", "/datastore/label", VIEW, {**_LABEL, **_IMAGE}),
    Rule("GET", "/datastore/label/info", VIEW, _LABEL),
    # With a session the image is only what the client calls it, and is ignored.
    Rule(
        "POST", "/infer/{model}", VIEW, {"image": check_free, "session_id": check_free, "output": check_free}, "image"
    ),
    Rule("GET", "/train/", VIEW, _STATUS),
    Rule("GET", "/scoring/", VIEW, _STATUS),
    Rule("GET", "/batch/infer", VIEW, _STATUS),
    Rule("GET", "/session/{session_id}", VIEW, {"update_ts": check_flag, "image": check_flag}),
    Rule("GET", "/model/info/{model}", VIEW),
    Rule("POST", "/activelearning/{strategy}", ANNOTATE),
    Rule("PUT", "/datastore/label", ANNOTATE, {**_IMAGE, "tag": check_name}, "label"),
    Rule("GET", "/datastore/label/versions", ANNOTATE, _LABEL),
    Rule("POST", "/datastore/label/restore", ANNOTATE, {**_LABEL, "version": number(1, 999_999)}),
    Rule("PUT", "/datastore/image", ANNOTATE, _IMAGE, "image"),
    Rule("PUT", "/datastore/", ANNOTATE, _IMAGE, "image"),
    Rule("PUT", "/datastore/image/info", ANNOTATE, _IMAGE),
    Rule("PUT", "/datastore/label/info", ANNOTATE, _LABEL),
    Rule("PUT", "/session/", ANNOTATE, {"uncompress": check_flag, "expiry": number(0, 86_400)}, "image"),
    Rule("DELETE", "/session/{session_id}", ANNOTATE),
    Rule("POST", "/train/{model}", TRAIN, {"run_sync": check_flag, "enqueue": check_flag}),
    Rule("DELETE", "/train/", TRAIN),
    Rule("POST", "/scoring/{method}", TRAIN, {"run_sync": check_flag}),
    Rule("DELETE", "/scoring/", TRAIN),
    Rule(
        "POST",
        "/batch/infer/{model}",
        TRAIN,
        {"images": one_of("all", "labeled", "unlabeled"), "run_sync": check_flag},
    ),
    Rule("DELETE", "/batch/infer", TRAIN),
    Rule("DELETE", "/datastore/image", ADMIN, {"id": check_name}),
    Rule("DELETE", "/datastore/", ADMIN, {"id": check_name}),
    Rule("DELETE", "/datastore/label", ADMIN, {"id": check_name, "tag": check_name}),
    Rule("GET", "/datastore/dataset", ADMIN, {"limit_cases": number(1, 1_000_000)}),
    Rule("GET", "/model/{model}", ADMIN),
    Rule("PUT", "/model/{model}", ADMIN),
    Rule("DELETE", "/model/{model}", ADMIN),
    Rule(
        "GET",
        "/logs/",
        ADMIN,
        {"lines": number(1, 10_000), "html": check_flag, "text": check_flag, "refresh": number(0, 3600)},
    ),
    Rule("POST", "/reload", ADMIN),
)


def _compiled(path: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path.rstrip("/")))
    # With and without a slash at the end: the host redirects from one to the other.
    return re.compile(f"{pattern}/?")


_PATTERNS = {path: _compiled(path) for path in dict.fromkeys(rule.path for rule in RULES)}
_BY_PATH: dict[str, dict[str, Rule]] = {}
for _rule in RULES:
    _BY_PATH.setdefault(_rule.path, {})[_rule.method] = _rule


def find_rules(path: str) -> tuple[Mapping[str, Rule], dict[str, str]]:
    """Return the rules of a path by method, and the names in it.

    Of two templates that match (`/datastore/{x}`), the one without braces is taken.

    Args:
        path: decoded path of the request.

    Returns:
        Rules, none when there is no such path; and values by the name of their place in the template.
    """
    for template in sorted(_PATTERNS, key=lambda one: one.count("{")):
        match = _PATTERNS[template].fullmatch(path)
        if match:
            return _BY_PATH[template], match.groupdict()
    return {}, {}


def check_path(path: str) -> None:
    """Raise for a path that no client sends by accident.

    Raises:
        MalformedError: for `..`, backslashes and control characters.
    """
    if ".." in path.split("/") or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise MalformedError("the path holds '..', a backslash or a control character, expected names between slashes")


def check_query(rule: Rule, query: bytes) -> dict[str, str]:
    """Check a query against its rule.

    Args:
        rule: of the request.
        query: as sent.

    Returns:
        The parameters.

    Raises:
        MalformedError: for a parameter that is unknown, given twice or has an impossible value.
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS)
    except ValueError as error:
        raise MalformedError(
            f"the query cannot be read: {type(error).__name__}", "send ASCII, percent-encoded"
        ) from error
    found: dict[str, str] = {}
    for key, value in pairs:
        if key not in rule.query:
            allowed = ", ".join(sorted(rule.query)) or "none"
            msg = f"{rule.method} {rule.path} takes no query parameter {key[:40]!a}"
            raise MalformedError(msg, f"allowed: {allowed}")
        if key in found:
            raise MalformedError(f"query parameter {key} is given twice", "send it once")
        found[key] = value
    for key, value in found.items():
        # Clients send what they have no value for as an empty one.
        if value:
            rule.query[key](f"query parameter {key}", value)
    if rule.path == "/infer/{model}":
        _check_infer_query(found)
    return found


def _check_infer_query(found: Mapping[str, str]) -> None:
    if found.get("session_id"):
        check_name("query parameter session_id", found["session_id"])
    elif found.get("image"):
        check_name("query parameter image", found["image"])
    if found.get("output"):
        one_of("image", "json", "all")("query parameter output", found["output"])

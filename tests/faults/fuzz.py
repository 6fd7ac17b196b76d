"""Requests that nobody should send, made from the server's own description of its routes."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import nibabel as nib
import numpy as np
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from faults.served import Served

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
CASES, MODELS, TAGS = ("phantom-001", "phantom-003", "phantom-006"), ("calf", "dice_focal"), ("final", "original")
KNOWN = {
    "image": CASES,
    "id": CASES,
    "label": CASES,
    "tag": TAGS,
    "model": MODELS,
    "method": MODELS,
    "strategy": ("first", "random"),
    "output": ("json", "image", "all", "train"),
    "images": ("all", "labeled", "unlabeled"),
    "check_sum": ("0" * 64,),
    "lines": ("10",),
    "limit_cases": ("1",),
}
"""What a parameter of this name means to say."""

NASTY = (
    "",
    "..",
    ".",
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "%2e%2e%2fx",
    "....//x",
    "~/x",
    "file:///etc/passwd",
    "x" * 300,
    "phantom-001\x00",
    "\x00",
    "phantom-001/../phantom-001",
    "phantom-001.nii.gz",
    "a b",
    "é",
    "\U0001f600",
    "\u202e",
    "\ud7ff",
    "%00",
    "%",
    "${x}",
    "{{7*7}}",
    "<script>",
    "' OR 1=1",
    "-1",
    "1e309",
    "NaN",
    "9" * 400,
    "true",
    "null",
    "[]",
    "{}",
    "CON",
    "\r\nX-Injected: 1",
)
OPTIONS = (
    "model",
    "image",
    "label",
    "device",
    "max_epochs",
    "loss",
    "sampler",
    "name",
    "label_info",
    "scheme",
    "empty",
    "if_match",
    "result_extension",
    "result_dtype",
    "client_id",
    "bundle_path",
    "train_ds",
    "save_label",
    "label_tag",
    "session",
    "comment",
    "force",
)

words = st.one_of(st.sampled_from((*CASES, *MODELS, *TAGS)), st.sampled_from(NASTY), st.text(max_size=40))
numbers = st.one_of(st.integers(), st.integers(-(10**30), 10**30), st.floats(), st.sampled_from((0, -1, 2**63, 1e308)))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
objects = st.dictionaries(st.one_of(st.sampled_from(OPTIONS), words), values, max_size=5)
nested = st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth)
# Python's NaN and Infinity stay in: some clients send them.
texts = st.one_of(objects.map(json.dumps), values.map(json.dumps), words, nested)


def _volume(shape: tuple[int, ...], value: int) -> bytes:
    """A volume that is as much like the phantoms' labels as its shape is like theirs."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-(n - 1) * 2.0 for n in (40, 48, 40)]
    array = np.zeros(shape, np.uint8)
    array[:2, :2] = value
    return gzip.compress(nib.Nifti1Image(array, affine).to_bytes(), 1)


files = st.one_of(
    st.binary(max_size=200),
    st.sampled_from((b"", b"\x1f\x8b", b"PK\x03\x04", b"\x80\x04c__builtin__\nexec\n.", b"NRRD0004\n")),
    st.builds(_volume, st.sampled_from(((4, 4, 4), (40, 48, 40), (4, 4), (40, 48, 40, 4))), st.integers(0, 255)),
    st.builds(_volume, st.just((40, 48, 40)), st.integers(1, 3)),
)
names = st.one_of(st.sampled_from(("label.nii.gz", "x.nrrd", "x.exe", "x", "x.zip", "model.pt")), words)
header_texts = st.sampled_from(
    (*(n for n in NASTY if n.isprintable() and n.isascii()), "bytes=0-", "*/*", "Bearer x", "W/x")
)


@dataclass(frozen=True)
class Operation:
    """One route and method of the server's description; `known` is false for a method it does not offer."""

    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    content: str
    fields: Mapping[str, bool] = field(default_factory=dict)
    known: bool = True

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.method.upper()} {self.path}"


@dataclass(frozen=True)
class Probe:
    """One request."""

    operation: Operation
    path: str
    kwargs: Mapping[str, Any]


@dataclass
class Storm:
    """What came of many probes."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests that were answered."""
        return sum(counter.total() for counter in self.statuses.values())

    def table(self) -> str:
        """Return counts by route and status."""
        lines = [f"{route:<34}{dict(sorted(counts.items()))}" for route, counts in sorted(self.statuses.items())]
        total: Counter[int] = sum(self.statuses.values(), Counter())
        return "\n".join([*lines, f"{self.count} requests: {dict(sorted(total.items()))}"])


def operations(description: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield every route with every method, those it does not offer among them."""
    schemas = description.get("components", {}).get("schemas", {})
    for path, methods in description["paths"].items():
        for method in METHODS:
            entry = methods.get(method)
            if entry is None:
                first = next(iter(methods.values()))
                inside = tuple((p["name"], p["in"]) for p in first.get("parameters", ()) if p["in"] == "path")
                yield Operation(method, path, inside, "", known=False)
                continue
            parameters = tuple((p["name"], p["in"]) for p in entry.get("parameters", ()))
            content = entry.get("requestBody", {}).get("content", {})
            kind = next(iter(content), "")
            schema = content.get(kind, {}).get("schema", {})
            schema = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
            yield Operation(method, path, parameters, kind, _fields(schema))


def _fields(schema: Mapping[str, Any]) -> dict[str, bool]:
    """Field name -> whether it is a file."""
    return {
        name: "contentMediaType" in json.dumps(entry) or "binary" in json.dumps(entry)
        for name, entry in schema.get("properties", {}).items()
    }


plain = st.sampled_from(("{}", '{"client_id": "somebody"}'))
whole = st.builds(_volume, st.just((40, 48, 40)), st.integers(1, 3))


@st.composite
def probes(draw: st.DrawFn, operation: Operation) -> Probe:
    """Draw a request of an operation, wild in one part at most: all others would be refused at the door."""
    wild_query, wild_body = draw(st.sampled_from(((False, False), (True, False), (False, True), (False, True))))
    path, query = operation.path, {}
    for name, place in operation.parameters:
        sensible = st.sampled_from(KNOWN.get(name, ("true", "1")))
        value = draw(words if wild_query and draw(st.booleans()) else sensible)
        if place == "path":
            path = path.replace("{" + name + "}", quote(value, safe="", errors="replace"))
        elif name in ("image", "label", "id") or draw(st.booleans()):
            query[name] = value
    kwargs: dict[str, Any] = {"params": query}
    if wild_query and draw(st.booleans()):
        query[draw(words)] = draw(words)
    if wild_query and draw(st.booleans()):
        kwargs["headers"] = {draw(st.sampled_from(("Accept", "If-Match", "Range", "Content-Type"))): draw(header_texts)}
    kwargs |= draw(_wild_bodies(operation) if wild_body else _plain_bodies(operation))
    return Probe(operation, path, kwargs)


@st.composite
def _plain_bodies(draw: st.DrawFn, operation: Operation) -> dict[str, Any]:
    if operation.content == "application/json":
        return {"json": json.loads(draw(plain))}
    kwargs: dict[str, Any] = {"data": {name: draw(plain) for name, file in operation.fields.items() if not file}}
    wanted = [name for name, file in operation.fields.items() if file and not operation.path.startswith("/infer/")]
    return {**kwargs, "files": [(name, ("label.nii.gz", draw(whole))) for name in wanted] or None}


@st.composite
def _wild_bodies(draw: st.DrawFn, operation: Operation) -> dict[str, Any]:
    if not operation.content or not draw(st.integers(0, 7)):
        return {"data": draw(files)}
    if operation.content == "application/json":
        text = draw(st.one_of(objects.map(json.dumps), texts))
        return {"data": text.encode(errors="replace"), "headers": {"Content-Type": "application/json"}}
    kwargs: dict[str, Any] = {}
    kwargs["data"] = {n: draw(texts) for n, file in operation.fields.items() if not file and draw(st.integers(0, 5))}
    wanted = [name for name, file in operation.fields.items() if file and draw(st.integers(0, 5))]
    return {**kwargs, "files": [(name, (draw(names), draw(files))) for name in wanted] or None}


def run_storm(server: Served, count: int, number: int) -> Storm:
    """Send at least `count` probes, evenly over the operations, and note every answer that breaks the rules."""
    every = list(operations(server.ask("GET", "/openapi.json").json()))
    offered = [operation for operation in every if operation.known]
    others = [operation for operation in every if not operation.known]
    storm = Storm()
    others = others[:: 1 if count > 10 * len(others) else 10]
    for operation in others:
        _send_some(server, operation, 1, number, storm)
    each = max(1, -(-(count - len(others)) // len(offered)))
    for operation in offered:
        _send_some(server, operation, each, number, storm)
    return storm


def _send_some(server: Served, operation: Operation, count: int, number: int, storm: Storm) -> None:
    counts = storm.statuses.setdefault(operation.name, Counter())
    for attempt in range(10):  # Hypothesis may find fewer distinct examples than asked for.
        missing = count - counts.total()
        for probe in draw_probes(operation, missing, number * 100 + attempt):
            _send(server, probe, storm)


def draw_probes(operation: Operation, count: int, number: int) -> list[Probe]:
    """Return at most `count` requests of an operation; the same number gives the same requests."""
    drawn: list[Probe] = []

    @seed(number)
    @settings(
        max_examples=count + 1,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(probes(operation))
    def collect(probe: Probe) -> None:
        drawn.append(probe)

    if count > 0:
        collect()
    # The first example is always the dullest one.
    return drawn[1:][:count]


def _send(server: Served, probe: Probe, storm: Storm) -> None:
    try:
        response = server.ask(probe.operation.method, probe.path, allow_redirects=False, **probe.kwargs)
    except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
        return  # The client library itself refuses to send it.
    except requests.RequestException as error:
        storm.problems.append(f"{probe}: {type(error).__name__}: {error}")
        return
    storm.statuses[probe.operation.name][response.status_code] += 1
    problem = _problem(server, response)
    if problem:
        storm.problems.append(f"{problem}: {response.status_code} {response.text[:300]!r} to {probe}")


def _problem(server: Served, response: requests.Response) -> str:
    if response.status_code >= 500:
        return "a server error"
    if response.status_code >= 400 and response.request.method != "HEAD":
        try:
            error = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            return "an error that is no JSON error"
        if not {"code", "message", "hint"} <= set(error):
            return "an error without code, message and hint"
        if str(server.root) in response.text or "Traceback" in response.text:
            return "an error that tells a path"
    if "X-Injected" in response.headers:
        return "a header that the client made"
    return ""

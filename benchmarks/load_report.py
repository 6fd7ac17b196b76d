"""What a load run found: latencies by route, memory, labels that are where they should be, and what was promised."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from load_clients import Acknowledged, Notes, Reply

from rarevoxel.volumes import file_sha256, read_labels

INFO_P95_S, LABEL_P95_S, GROWTH = 1.0, 2.0, 0.10
BUSY = (429, 503)


class Sample(NamedTuple):
    """Resident memory of the server process (bytes) at a time (s)."""

    at: float
    rss: int


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(-(-share * len(ordered) // 1)) - 1))]


def routes(replies: Sequence[Reply]) -> dict[str, dict[str, Any]]:
    """Return count, latencies in seconds and statuses by route; bad labels are a row of their own."""
    found: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        found[f"{reply.route}{' (bad)' if reply.bad else ''}"].append(reply)
    table = {}
    for route, group in sorted(found.items()):
        seconds = [reply.seconds for reply in group]
        table[route] = {
            "count": len(group),
            "p50_s": round(statistics.median(seconds), 4),
            "p95_s": round(percentile(seconds, 0.95), 4),
            "max_s": round(max(seconds), 4),
            "statuses": {str(status): n for status, n in sorted(Counter(r.status for r in group).items())},
        }
    return table


def lost_labels(studies: Path, acknowledged: Sequence[Acknowledged]) -> list[str]:
    """Return what became of acknowledged labels that are not whole in the history, or not what is served."""
    problems = []
    by_case: dict[str, list[Acknowledged]] = defaultdict(list)
    for label in acknowledged:
        by_case[label.case].append(label)
    for case, labels in by_case.items():
        folder = studies / "history" / case / "final"
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
        received = {record.get("received_sha256"): record for record in records}
        problems += [
            f"{case}: {label.sent_sha256[:12]} is in no record" for label in labels if label.sent_sha256 not in received
        ]
        for record in records:
            file = folder / f"{int(record['version']):06d}.nii.gz"
            if record.get("received_sha256") and (not file.is_file() or file_sha256(file) != record["sha256"]):
                problems.append(f"{case}: version {record['version']} is torn or missing")
        current = studies / "labels" / "final" / f"{case}.nii.gz"
        newest = max(labels, key=lambda label: label.at)
        at = received.get(newest.sent_sha256, {}).get("version", 0)
        allowed = {record["sha256"] for record in records if record["version"] >= at}
        if not current.is_file() or file_sha256(current) not in allowed:
            problems.append(f"{case}: the label in service is older than the newest acknowledged one")
        else:
            read_labels(current)
    return problems


def judge(
    replies: Sequence[Reply], samples: Sequence[Sample], notes: Notes, lost: Sequence[str], seconds: float
) -> dict[str, bool]:
    """Return what was promised and whether it held."""
    table = routes(replies)
    infers = [reply for reply in replies if reply.route.startswith("POST /infer")]
    busy = [reply for reply in replies if reply.status in BUSY]
    other = [label for label in notes.acknowledged if label.reply_sha256 != label.sent_sha256]

    def p95(route: str) -> float:
        return float(table[route]["p95_s"]) if route in table else float("inf")

    return {
        "no 5xx": not any(reply.status >= 500 for reply in replies if reply not in busy),
        "every request answered": not notes.unanswered,
        "bad labels are all 4xx": all(400 <= reply.status < 500 for reply in replies if reply.bad),
        "good labels are all 200": all(
            reply.status == 200 for reply in replies if reply.route == "PUT /datastore/label" and not reply.bad
        ),
        f"GET /info/ p95 < {INFO_P95_S:g} s while inferring": p95("GET /info/") < INFO_P95_S,
        f"PUT label p95 < {LABEL_P95_S:g} s while inferring": p95("PUT /datastore/label") < LABEL_P95_S,
        "masks were made": any(reply.status == 200 for reply in infers),
        "a busy server says when to come back": all(reply.retry_after for reply in busy),
        "only inferences are told to": all(reply in infers for reply in busy),
        f"memory grows < {GROWTH:.0%} after the first minute": growth(samples, seconds) < GROWTH,
        "each reply names the sha256 that was sent": bool(notes.acknowledged) and not other,
        "each acknowledged label is whole in the history": not lost,
    }


def growth(samples: Sequence[Sample], seconds: float) -> float:
    """Return how much memory grew between the end of the first minute (or third) and the end, as a share."""
    first = min(60.0, seconds / 3)
    early = [s.rss for s in samples if first - 10 <= s.at <= first + 5] or [samples[0].rss]
    late = [s.rss for s in samples if s.at >= seconds - 15] or [samples[-1].rss]
    return statistics.median(late) / statistics.median(early) - 1


def machine(threads: int) -> dict[str, Any]:
    """Say what all this was measured on."""
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def show(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [json.dumps(result["machine"])]
    for part, table in (("load", "routes"), ("kill", "routes_after")):
        if part not in result:
            continue
        content = result[part]
        lines += ["", part, f"{'route':<32}{'count':>7}{'p50 s':>9}{'p95 s':>9}{'max s':>9}  statuses"]
        for route, row in content[table].items():
            numbers = f"{row['count']:>7}{row['p50_s']:>9.3f}{row['p95_s']:>9.3f}{row['max_s']:>9.3f}"
            lines.append(f"{route:<32}{numbers}  {row['statuses']}")
        lines += [f"{key}: {content[key]}" for key in content if key not in (table, "passed")]
        lines += [f"  {'pass' if held else 'FAIL'}  {what}" for what, held in content["passed"].items()]
    return "\n".join(lines) + "\n"

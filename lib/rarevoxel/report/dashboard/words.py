"""How numbers, times and addresses are written on the dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from urllib.parse import quote

HOME = "/dashboard"


def case_page(case: str) -> str:
    """Return the address of a case's page."""
    return f"{HOME}/cases/{quote(case, safe='')}"


def picture_of(case: str, *, small: bool = False) -> str:
    """Return the address of a case's picture."""
    return f"{case_page(case)}/{'thumbnail' if small else 'picture'}"


def run_page_of(model: str, run: str) -> str:
    """Return the address of a run's report."""
    return f"{HOME}/runs/{quote(model, safe='')}/{quote(run, safe='')}"


def when(ts: str) -> str:
    """Return a time as people write it: to the minute, UTC; what is no time as it is."""
    try:
        found = datetime.fromisoformat(ts.replace("Z", "+00:00"))
    except ValueError:
        return ts
    return f"{found.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC" if found.tzinfo else f"{found:%Y-%m-%d %H:%M}"


def ml(mm3: float) -> str:
    """Return a volume in mm^3 as ml, with as many digits as tell small lesions apart."""
    value = mm3 / 1000.0
    shown = f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
    return f"{shown}\u00a0ml"


def duration(seconds: float) -> str:
    """Return seconds as a duration.

    Example:
        >>> duration(45), duration(200), duration(7320)
        ('45 s', '3 min 20 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals; a dash for None and NaN."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def by_region(values: Mapping[str, float], form: str = "{:.2f}") -> str:
    """Return region and number, region and number; a dash for none."""
    return ", ".join(f"{region}\u00a0{form.format(value)}" for region, value in values.items()) or "–"


def count(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, "label"), count(2, "label"), count(0, "case")
        ('1 label', '2 labels', '0 cases')
    """
    return f"{n} {one if n == 1 else many or one + 's'}"

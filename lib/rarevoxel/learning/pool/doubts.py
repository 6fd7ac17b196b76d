"""How doubtful a label is: what the quality check noticed, and how far the model is from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEPT_PER_WARNING = 0.7
"""What a warning of the quality check leaves of the trust in a label."""

_WORDS = 2


def doubt(findings: Sequence[Mapping[str, Any]], dice: Mapping[str, float]) -> tuple[float, str]:
    """Return how doubtful a label is, in [0, 1], and why.

        doubt = 1 - D 0.7^n

    D is the mean over regions of the Dice of the model's mask with the label, 1 where the model was not scored on it;
    n is the number of warnings of the quality check. One of the two is wrong where they disagree, not always the label.

    Args:
        findings: of the quality check, as plain data; errors among them count like warnings.
        dice: region -> Dice of the model in question; may be empty.

    Returns:
        0 and an empty text for a label about which nothing was noticed.

    Example:
        >>> doubt([{"code": "islands", "message": "3 islands"}], {"WT": 0.5})
        (0.65, 'the model agrees little: Dice 0.50; the quality check says: 3 islands')
    """
    agreement = sum(dice.values()) / len(dice) if dice else 1.0
    value = 1.0 - min(1.0, max(0.0, agreement)) * KEPT_PER_WARNING ** len(findings)
    if value <= 0.0:
        return 0.0, ""
    reasons = []
    if agreement < 1.0:
        lowest = min(dice, key=lambda region: dice[region])
        at = f", lowest for {lowest} ({dice[lowest]:.2f})" if len(dice) > 1 else ""
        little = "agrees little" if agreement < KEPT_PER_WARNING else "mostly agrees"
        reasons.append(f"the model {little}: Dice {agreement:.2f}{at}")
    if findings:
        said = "; ".join(str(one.get("message") or one.get("code")) for one in findings[:_WORDS])
        more = f" (and {len(findings) - _WORDS} more)" if len(findings) > _WORDS else ""
        reasons.append(f"the quality check says: {said}{more}")
    return round(value, 6), "; ".join(reasons)

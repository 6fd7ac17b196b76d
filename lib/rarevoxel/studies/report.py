"""What became of the cases that were to go into a studies folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rarevoxel.cases import Refusal


@dataclass(frozen=True)
class StudiesReport:
    """What `write_studies` did.

    Args:
        prepared: ids of the cases now in the folder.
        labelled: ids whose label map was written.
        empty: of those, the ids whose label map has no labelled voxel.
        kept: ids whose existing final label was left as it was.
        refused: cases that were not written, with reasons.
        incomplete: id -> the sequences it does not have, of the prepared cases without all four.
        warnings: what was assumed, a sentence each.
    """

    prepared: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    incomplete: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain lists, for JSON."""
        return {
            "prepared": list(self.prepared),
            "labelled": list(self.labelled),
            "empty": list(self.empty),
            "kept": list(self.kept),
            "refused": [refusal.to_dict() for refusal in self.refused],
            "incomplete": {case: list(missing) for case, missing in self.incomplete.items()},
            "warnings": list(self.warnings),
        }

"""Cases: found in the folder layouts of common data sets, checked, and found again from a display volume."""

from rarevoxel.cases.find import find_sequences
from rarevoxel.cases.model import DISPLAY_ORDER, SEQUENCES, Case, Discovery, Refusal
from rarevoxel.cases.names import patient_of
from rarevoxel.cases.scan import check_geometry, discover, scan
from rarevoxel.cases.schemes import assign_schemes, detect_scheme, label_values

__all__ = [
    "DISPLAY_ORDER",
    "SEQUENCES",
    "Case",
    "Discovery",
    "Refusal",
    "assign_schemes",
    "check_geometry",
    "detect_scheme",
    "discover",
    "find_sequences",
    "label_values",
    "patient_of",
    "scan",
]

"""Contrasts: what each material looks like on each sequence."""

from rarevoxel.phantom.contrast.relaxation import Relaxation, draw_relaxation
from rarevoxel.phantom.contrast.sequences import (
    draw_sequences,
    inversion_recovery,
    nulling_time,
    prepared_gradient_echo,
    spin_echo,
)
from rarevoxel.phantom.contrast.tables import Style, Table, draw_table, free_table, keep_lesions

__all__ = [
    "Relaxation",
    "Style",
    "Table",
    "draw_relaxation",
    "draw_sequences",
    "draw_table",
    "free_table",
    "inversion_recovery",
    "keep_lesions",
    "nulling_time",
    "prepared_gradient_echo",
    "spin_echo",
]

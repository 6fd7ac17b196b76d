"""Reports: pictures of cases, charts of runs, and the page that holds them."""

from rarevoxel.report.figures import draw_gate, draw_sizes, draw_training
from rarevoxel.report.gate import run_page, write_run_report
from rarevoxel.report.page import PHANTOM_NOTICE, Page, Picture, Section, Table, render_page, versions, write_page
from rarevoxel.report.slices import Panel, best_slices, dice_line, draw_case

__all__ = [
    "PHANTOM_NOTICE",
    "Page",
    "Panel",
    "Picture",
    "Section",
    "Table",
    "best_slices",
    "dice_line",
    "draw_case",
    "draw_gate",
    "draw_sizes",
    "draw_training",
    "render_page",
    "run_page",
    "versions",
    "write_page",
    "write_run_report",
]

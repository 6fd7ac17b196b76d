"""The dashboard: pages of a running server's queue, models, sizes, effort and findings, as pure functions of data."""

from rarevoxel.report.dashboard.blocks import Block, Cell, Grid, content_policy, render
from rarevoxel.report.dashboard.data import Dashboard, LabelVersion, Model, Queue, Refused, Run, Waiting, current
from rarevoxel.report.dashboard.pages import CaseView, case_html, dashboard_page
from rarevoxel.report.dashboard.paging import Turn

__all__ = [
    "Block",
    "CaseView",
    "Cell",
    "Dashboard",
    "Grid",
    "LabelVersion",
    "Model",
    "Queue",
    "Refused",
    "Run",
    "Turn",
    "Waiting",
    "case_html",
    "content_policy",
    "current",
    "dashboard_page",
    "render",
]

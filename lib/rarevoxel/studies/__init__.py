"""The studies folder: what a server shows, made from cases as they lie on disk."""

from rarevoxel.cases.folders import TABLE_NAME
from rarevoxel.cases.table import Study, load_table, patients, save_table
from rarevoxel.studies.report import StudiesReport
from rarevoxel.studies.write import write_studies

__all__ = ["TABLE_NAME", "StudiesReport", "Study", "load_table", "patients", "save_table", "write_studies"]

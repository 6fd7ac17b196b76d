"""The gallery of synthetic heads: every ingredient of the generator on one page."""

from rarevoxel.report.gallery.page import gallery_page, write_gallery, write_montage

__all__ = ["gallery_page", "write_gallery", "write_montage"]

"""The datastore behind the server: one case, one display volume, labels checked before they are accepted."""

from rarevoxel.datastore.studies import StudiesDatastore

__all__ = ["StudiesDatastore"]

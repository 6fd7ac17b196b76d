from rarevoxel.server.app import RareVoxelApp

__all__ = ["RareVoxelApp"]

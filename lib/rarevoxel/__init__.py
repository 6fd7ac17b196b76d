"""rarevoxel: measure the class imbalance of 3D segmentation data, choose a loss for it, train, serve, correct."""

__version__ = "0.1.0"

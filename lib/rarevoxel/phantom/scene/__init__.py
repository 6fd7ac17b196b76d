"""Scenes: heads and their diseases as maps of materials, before a scanner has seen them."""

from rarevoxel.phantom.scene.canvas import Scene, empty_scene
from rarevoxel.phantom.scene.draw import FREQUENCY, PATIENTS, draw_scene
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.tumours import Tumour, erase_contrast, grow_tumour

__all__ = [
    "FREQUENCY",
    "PATIENTS",
    "Material",
    "Scene",
    "Tumour",
    "draw_scene",
    "empty_scene",
    "erase_contrast",
    "grow_tumour",
]

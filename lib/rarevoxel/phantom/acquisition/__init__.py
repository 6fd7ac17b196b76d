"""What a scanner, a reconstruction and a preprocessing pipeline do to noise-free signals."""

from rarevoxel.phantom.acquisition.acquire import FLOOR, acquire, scan, store
from rarevoxel.phantom.acquisition.bias import shade
from rarevoxel.phantom.acquisition.blur import blur, sharpen
from rarevoxel.phantom.acquisition.draw import draw_acquisition
from rarevoxel.phantom.acquisition.ghosting import ghosts
from rarevoxel.phantom.acquisition.head import Layers, remnants
from rarevoxel.phantom.acquisition.intensity import bend, quantise, rescale
from rarevoxel.phantom.acquisition.misregister import misregister
from rarevoxel.phantom.acquisition.missing import drop
from rarevoxel.phantom.acquisition.motion import Moved, motion
from rarevoxel.phantom.acquisition.noise import rician
from rarevoxel.phantom.acquisition.parameters import (
    Acquisition,
    Lines,
    Misregistration,
    Noise,
    SequenceAcquisition,
    Shading,
    Sharpness,
    Slices,
    Storage,
    Stripping,
)
from rarevoxel.phantom.acquisition.ringing import ringing
from rarevoxel.phantom.acquisition.strip import rim, strip
from rarevoxel.phantom.acquisition.thick import slice_matrix, thick_slices
from rarevoxel.phantom.acquisition.wrap import wrap

__all__ = [
    "FLOOR",
    "Acquisition",
    "Layers",
    "Lines",
    "Misregistration",
    "Moved",
    "Noise",
    "SequenceAcquisition",
    "Shading",
    "Sharpness",
    "Slices",
    "Storage",
    "Stripping",
    "acquire",
    "bend",
    "blur",
    "draw_acquisition",
    "drop",
    "ghosts",
    "misregister",
    "motion",
    "quantise",
    "remnants",
    "rescale",
    "rician",
    "rim",
    "ringing",
    "scan",
    "shade",
    "sharpen",
    "slice_matrix",
    "store",
    "strip",
    "thick_slices",
    "wrap",
]

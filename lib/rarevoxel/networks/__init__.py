"""Networks from configuration, and the weight files they are kept in."""

from rarevoxel.networks.two_stage import (
    FORMS,
    SecondStage,
    TwoStage,
    TwoStageNetwork,
    binary_from_regions,
    first_stage_of,
)
from rarevoxel.networks.unet import LastChannelsNorm, ShuffledUNet, block_edge, build_network, fast_dtype, use_norm
from rarevoxel.networks.weights import FORMAT, TWO_STAGE_FORMAT, load_weights, save_weights

__all__ = [
    "FORMAT",
    "FORMS",
    "TWO_STAGE_FORMAT",
    "LastChannelsNorm",
    "SecondStage",
    "ShuffledUNet",
    "TwoStage",
    "TwoStageNetwork",
    "binary_from_regions",
    "block_edge",
    "build_network",
    "fast_dtype",
    "first_stage_of",
    "load_weights",
    "save_weights",
    "use_norm",
]

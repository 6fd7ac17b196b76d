"""Inference: from a case on disk to a mask on the grid the clinician sees."""

from rarevoxel.inference.engine import Engine
from rarevoxel.inference.prediction import Prediction
from rarevoxel.inference.two_stage import combine, tune_threshold
from rarevoxel.inference.windows import predict_image, predict_logits, predict_probabilities

__all__ = [
    "Engine",
    "Prediction",
    "combine",
    "predict_image",
    "predict_logits",
    "predict_probabilities",
    "tune_threshold",
]

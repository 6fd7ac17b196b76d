"""Inference: from a case on disk to a mask on the grid the clinician sees."""

from rarevoxel.inference.engine import Engine, Prediction
from rarevoxel.inference.windows import predict_logits, predict_probabilities

__all__ = ["Engine", "Prediction", "predict_logits", "predict_probabilities"]

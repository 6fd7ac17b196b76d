"""Training: measure, choose the loss, train, judge, publish or keep."""

from rarevoxel.training.gate import Verdict, judge, publish
from rarevoxel.training.loop import History, fit
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.run import LabelledCase, Places, train_model
from rarevoxel.training.split import Split, in_holdout, split_cases

__all__ = [
    "History",
    "LabelledCase",
    "Places",
    "Split",
    "TrainOptions",
    "Verdict",
    "fit",
    "in_holdout",
    "judge",
    "publish",
    "split_cases",
    "train_model",
]

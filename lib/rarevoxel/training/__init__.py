"""Training: measure, choose the loss, train, judge, publish or keep."""

from rarevoxel.training.fitting import History
from rarevoxel.training.gate import Verdict, judge
from rarevoxel.training.loop import fit
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.places import LabelledCase, Places
from rarevoxel.training.registry import Registry, Version
from rarevoxel.training.run import train_model
from rarevoxel.training.split import Split, in_holdout, split_cases

__all__ = [
    "History",
    "LabelledCase",
    "Places",
    "Registry",
    "Split",
    "TrainOptions",
    "Verdict",
    "Version",
    "fit",
    "in_holdout",
    "judge",
    "split_cases",
    "train_model",
]

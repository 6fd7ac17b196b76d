"""MONAI transforms: the one road from files to network input and back, statistical preprocessing, data-set filters."""

from rarevoxel.transforms.annotate import AnnotateStatistics, AnnotateStatisticsd
from rarevoxel.transforms.background import background_value, subtract_background
from rarevoxel.transforms.build import Stage, build_case, build_patches, build_transforms
from rarevoxel.transforms.clip import ClipPercentiles, ClipPercentilesd
from rarevoxel.transforms.drop_rules import DropEmpty, DropFailedChecks, DropTiny
from rarevoxel.transforms.filter import DatasetFilter, Dropped, FilterResult
from rarevoxel.transforms.filter_rules import FILTER_NAMES, parse_filter
from rarevoxel.transforms.load import LoadLabeld, LoadSequencesd, load_sequences, missing_of, sequence_files
from rarevoxel.transforms.normalize import NormalizeBrain, NormalizeBraind
from rarevoxel.transforms.outliers import DropVolumeOutliers
from rarevoxel.transforms.power import PowerTransform, PowerTransformd
from rarevoxel.transforms.power_fit import fit_power, fit_power_from_cases
from rarevoxel.transforms.present_ratio import PresentRatio, slice_items, slices_by_case, subsample_to_ratio
from rarevoxel.transforms.regions import LabelToRegions, LabelToRegionsd
from rarevoxel.transforms.rule import Rule
from rarevoxel.transforms.spatial import CropBraind, ToSpacingd
from rarevoxel.transforms.zscore import ZScoreBrain, ZScoreBraind

__all__ = [
    "FILTER_NAMES",
    "AnnotateStatistics",
    "AnnotateStatisticsd",
    "ClipPercentiles",
    "ClipPercentilesd",
    "CropBraind",
    "DatasetFilter",
    "DropEmpty",
    "DropFailedChecks",
    "DropTiny",
    "DropVolumeOutliers",
    "Dropped",
    "FilterResult",
    "LabelToRegions",
    "LabelToRegionsd",
    "LoadLabeld",
    "LoadSequencesd",
    "NormalizeBrain",
    "NormalizeBraind",
    "PowerTransform",
    "PowerTransformd",
    "PresentRatio",
    "Rule",
    "Stage",
    "ToSpacingd",
    "ZScoreBrain",
    "ZScoreBraind",
    "background_value",
    "build_case",
    "build_patches",
    "build_transforms",
    "fit_power",
    "fit_power_from_cases",
    "load_sequences",
    "missing_of",
    "parse_filter",
    "sequence_files",
    "slice_items",
    "slices_by_case",
    "subsample_to_ratio",
    "subtract_background",
]

"""The same quantities of one case by other means: MONAI's DataAnalyzer, nibabel with scipy, and SimpleITK.

Of every sequence: number, mean, standard deviation, skewness, excess kurtosis, extremes and five percentiles of the
brain, of every label and of every region; and the components of every label and region. A peer that does not have a
quantity is let off it, so a ratio says at least how much faster we are.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.cases import SEQUENCES, Case, discover
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics.intensity import PERCENTILES
from rarevoxel.statistics.measure_case import measure_case

STRUCTURES = {name: (value,) for name, value in CLIENT_LABELS.items()} | {
    name: tuple(CLIENT_LABELS[label] for label in labels) for name, labels in REGIONS.items()
}

Found = dict[str, dict[str, tuple[float, ...]]]


def files(case: Path) -> tuple[list[Path], Path]:
    """Return the four sequences and the label map of a case that `write_case` wrote."""
    return [case / f"{case.name}-{name}.nii.gz" for name in SEQUENCES], case / f"{case.name}-seg.nii.gz"


def ours(case: Case) -> Any:
    """Measure with rarevoxel."""
    return measure_case(case, intensities=True)


def case_at(folder: Path) -> Case:
    """Return the case in a folder, as `ours` takes it."""
    return discover(folder)[0]


def with_scipy(case: Path) -> Found:
    """Measure with nibabel, numpy and scipy, as one would write it down."""
    import nibabel
    from scipy import ndimage, stats

    images, label = files(case)
    labels = np.asarray(nibabel.load(label).dataobj)
    masks = {name: np.isin(labels, values) for name, values in STRUCTURES.items()}
    for mask in masks.values():
        found, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        np.bincount(found.ravel())
    result: Found = {}
    for name, path in zip(SEQUENCES, images, strict=True):
        image = np.asarray(nibabel.load(path).dataobj)
        result[name] = {}
        for structure, mask in {"brain": image != 0, **masks}.items():
            values = image[mask].astype(np.float64)
            if values.size:
                low, *between, high = np.percentile(values, (0, *PERCENTILES, 100)).tolist()
                shape = float(stats.skew(values)), float(stats.kurtosis(values))
                result[name][structure] = (values.size, values.mean(), values.std(), *shape, low, high, *between)
    return result


def with_simpleitk(case: Path) -> Found:
    """Measure with SimpleITK; it has skewness, kurtosis and the median, and no other percentile."""
    import SimpleITK as sitk

    images, label = files(case)
    labels = sitk.ReadImage(str(label))
    masks = [sitk.Cast(labels, sitk.sitkUInt8)]
    masks += [
        sitk.ChangeLabel(labels, {value: 1 if value in STRUCTURES[name] else 0 for value in (1, 2, 3, 4)})
        for name in REGIONS
    ]
    for value in CLIENT_LABELS.values():
        _components(labels == value)
    for mask in masks[1:]:
        _components(mask)
    result: Found = {}
    for name, path in zip(SEQUENCES, images, strict=True):
        image = sitk.ReadImage(str(path))
        result[name] = {}
        for which, mask in zip((None, *REGIONS, "brain"), (*masks, image != 0), strict=True):
            found = sitk.LabelIntensityStatisticsImageFilter()
            found.Execute(mask, image)
            for value in found.GetLabels():
                structure = which or next(label for label, own in CLIENT_LABELS.items() if own == value)
                result[name][structure] = (
                    found.GetNumberOfPixels(value),
                    found.GetMean(value),
                    found.GetStandardDeviation(value),
                    found.GetSkewness(value),
                    found.GetKurtosis(value),
                    found.GetMinimum(value),
                    found.GetMaximum(value),
                    found.GetMedian(value),
                )
    return result


def with_monai(case: Path) -> None:
    """Measure with auto3dseg's DataAnalyzer: intensities of the whole image and of every label, and components."""
    from monai.apps.auto3dseg import DataAnalyzer

    images, label = files(case)
    datalist = {"training": [{"image": [str(path) for path in images], "label": str(label)}]}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            analyzer = DataAnalyzer(
                datalist, str(case), output_path=str(Path(folder) / "stats.yaml"), device="cpu", worker=0
            )
            analyzer.get_all_case_stats()
        finally:
            logging.disable(logging.NOTSET)


def _components(mask: Any) -> None:
    import SimpleITK as sitk

    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ConnectedComponent(mask, True))
    for value in shape.GetLabels():
        shape.GetNumberOfPixels(value)

"""How unsure a model is of one case, where it matters: at the border of its mask and where it nearly saw a lesion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from rarevoxel.inference.engine import Engine
from rarevoxel.inference.ensemble import Spread, own_images, spread
from rarevoxel.inference.entropy import binary_entropy
from rarevoxel.inference.features import watching
from rarevoxel.inference.rule import rule_of
from rarevoxel.inference.self_check import Mask, region_confidence, region_masks, smoothed
from rarevoxel.labels import REGIONS
from rarevoxel.learning.pool import Candidate, CaseScore
from rarevoxel.statistics.box import nonzero_box
from rarevoxel.transforms import missing_of

Values = npt.NDArray[np.float32]

SHELL_MM = 2.0
"""How far the boundary reaches to either side of a mask's surface."""

LOW = 0.1
"""Probability from which a voxel may be of a lesion."""

SMALLEST_MM3 = 5.0
"""A candidate below this volume is no structure."""

MOST = 30
"""Candidates kept of a region, those with the largest expected volume."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class RegionUncertainty:
    """What is unsure of one region.

    Attributes:
        entropy: mean predictive entropy over boundary and candidates, bits.
        mutual_information: mean mutual information over the same voxels, bits.
        missed_ml: sum of p outside the mask over the candidates, ml.
        candidates: largest expected volume first.
    """

    entropy: float = 0.0
    mutual_information: float = 0.0
    missed_ml: float = 0.0
    candidates: tuple[Candidate, ...] = ()


def boundary_shell(mask: Mask, spacing: Sequence[float], width: float = SHELL_MM) -> Mask:
    """Return the voxels whose centres are within a width of a voxel on the other side of a mask's surface.

    At least the voxels next to the surface along the finest axis belong to it, however coarse the grid.

    Args:
        mask: `(H, W, D)`.
        spacing: voxel size in mm.
        width: mm.
    """
    shell: Mask = np.zeros_like(mask)
    near = _near(mask, spacing, width)
    if near is None or mask.all():
        return shell
    reach = max(width, min(spacing)) + 1e-6
    part = mask[near]
    inside = ndimage.distance_transform_edt(part, sampling=spacing)
    outside = ndimage.distance_transform_edt(~part, sampling=spacing)
    shell[near] = np.where(part, inside, outside) <= reach
    return shell


def region_uncertainty(
    region: str,
    mean: Values,
    mean_entropy: Values,
    mask: Mask,
    spacing: Sequence[float],
    *,
    smallest_mm3: float = SMALLEST_MM3,
    most: int = MOST,
) -> RegionUncertainty:
    """Return entropy and mutual information of one region over its boundary and candidates, and the candidates.

    A candidate is 26-connected voxels with p >= `LOW`. The means are over the shell of the mask and over the voxels of
    candidates with p <= 1 - `LOW`: a large tumour's sure inside would hide its border and every small lesion. Nothing
    farther away counts.

    `H(p) = -p log2 p - (1 - p) log2(1 - p)` of the mean p over samples is the predictive entropy; less the mean of the
    samples' own entropies it is the mutual information of answer and sample (BALD), which is 0 where all agree.

    Args:
        region: its name.
        mean: p, float32 `(H, W, D)`.
        mean_entropy: mean over samples of `H`, bits, the same shape.
        mask: proposed mask, the same shape.
        spacing: voxel size in mm.
        smallest_mm3: smaller candidates are left out.
        most: how many candidates are kept.

    References:
        N. Houlsby et al., 2011, Bayesian active learning for classification and preference learning, arXiv:1112.5745.
        There of one answer; here voxel by voxel and averaged where lesions may be.
    """
    near = _near(mask | (mean >= LOW), spacing)
    if near is None:
        return RegionUncertainty()
    p, sure, mask = mean[near], mean_entropy[near], mask[near]
    entropy = binary_entropy(torch.from_numpy(np.ascontiguousarray(p))).numpy()
    pieces, kept = _candidates(region, p, entropy, mask, spacing, smallest_mm3, most)
    candidates = tuple(candidate for _, candidate in kept)
    chosen = np.isin(pieces, [number for number, _ in kept]) if kept else np.zeros_like(mask)
    missed = float(p[chosen & ~mask].sum(dtype=np.float64)) * math.prod(spacing) / 1000.0
    voxels = boundary_shell(mask, spacing) | (chosen & (p <= 1.0 - LOW))
    if not voxels.any():
        return RegionUncertainty(missed_ml=round(missed, 6), candidates=candidates)
    total = float(entropy[voxels].mean(dtype=np.float64))
    # By rounding a mean of many entropies can come out a hair above the entropy of the mean.
    information = max(0.0, total - float(sure[voxels].mean(dtype=np.float64)))
    return RegionUncertainty(round(total, 6), round(information, 6), round(missed, 6), candidates)


def score_case(
    engine: Engine,
    case: str,
    image: Path | Mapping[str, Path],
    *,
    method: str = "none",
    seed: int = 0,
    stamp: str = "",
) -> CaseScore:
    """Return what the weights in service say about a case that nobody has labelled yet.

    All is measured on the network's own grid, cropped to the brain: an answer to a click is resampled to the display
    grid, and its volumes and confidence differ by that.

    Args:
        engine: whose weights are asked.
        case: its id.
        image: see `Engine.predict`.
        method: one of `rarevoxel.inference.ensemble.METHODS`.
        seed: of what is drawn.
        stamp: kept as the score's `image`.

    Raises:
        ConfigError: for an unknown method.
        InputError, ModelError, UnavailableError: see `Engine.predict`.
    """
    prepared = engine.prepare(image)
    with watching(prepared.serving.network) as seen:
        own = own_images(engine, prepared)
    drawn = spread(engine, prepared, own, method=method, seed=seed)
    rule = rule_of(prepared.serving.info, missing_of(prepared.data), engine.config.inference)
    spacing = tuple(float(mm) for mm in prepared.data.pixdim)
    masks = region_masks(rule.apply(drawn.proposed, math.prod(spacing))[0])
    found = _regions(drawn, masks, spacing)
    ml = math.prod(spacing) / 1000.0
    every = [candidate for region in found.values() for candidate in region.candidates]
    return CaseScore(
        case=case,
        image=stamp,
        weights=prepared.serving.sha256,
        method=method,
        entropy={name: region.entropy for name, region in found.items()},
        mutual_information={name: region.mutual_information for name, region in found.items()},
        missed_ml={name: region.missed_ml for name, region in found.items()},
        confidence=region_confidence(drawn.proposed, masks, spacing),
        regions_ml={name: round(np.count_nonzero(mask) * ml, 4) for name, mask in masks.items()},
        candidates=tuple(sorted(every, key=lambda candidate: -candidate.expected)),
        features=seen.vector(),
    )


def _regions(drawn: Spread, masks: Mapping[str, Mask], spacing: Sequence[float]) -> dict[str, RegionUncertainty]:
    return {
        name: region_uncertainty(name, drawn.mean[index], drawn.mean_entropy[index], masks[name], spacing)
        for index, name in enumerate(REGIONS)
    }


def _near(where: Mask, spacing: Sequence[float], width: float = SHELL_MM) -> tuple[slice, ...] | None:
    """The box of what counts and of the shell around it."""
    box = nonzero_box(where)
    if box is None:
        return None
    margins = [math.ceil(max(width, mm) / mm) + 1 for mm in spacing]
    return tuple(slice(max(0, part.start - more), part.stop + more) for part, more in zip(box, margins, strict=True))


def _candidates(
    region: str,
    p: Values,
    entropy: Values,
    mask: Mask,
    spacing: Sequence[float],
    smallest_mm3: float,
    most: int,
) -> tuple[npt.NDArray[np.int32], list[tuple[int, Candidate]]]:
    """The numbered pieces, and those of them that are candidates with their numbers."""
    pieces, count = ndimage.label(p >= LOW, structure=_TOUCHING)
    voxel = math.prod(spacing)
    flat = pieces.ravel()

    def total(weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(flat, weights=weights.ravel().astype(np.float64), minlength=count + 1).astype(np.float64)

    sizes = np.bincount(flat, minlength=count + 1)
    expected, entropies = total(p) * voxel, total(entropy)
    marked = total(mask.astype(np.float32)) > 0
    peaks = np.zeros(count + 1)
    if count:
        peaks[1:] = ndimage.maximum(smoothed(p, spacing), pieces, np.arange(1, count + 1))
    numbers = [number for number in range(1, count + 1) if sizes[number] * voxel >= smallest_mm3]
    numbers = sorted(numbers, key=lambda number: -expected[number])[:most]
    found = [
        Candidate(
            region=region,
            volume=round(float(sizes[number] * voxel), 3),
            expected=round(float(expected[number]), 3),
            probability=round(min(1.0, float(peaks[number])), 4),
            entropy=round(float(entropies[number] / sizes[number]), 4),
            marked=bool(marked[number]),
        )
        for number in numbers
    ]
    return pieces, list(zip(numbers, found, strict=True))

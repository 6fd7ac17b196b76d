"""Batches of patches, drawn from cached cases the way a sampler asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose

from rarevoxel.config import AppConfig
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling import SAMPLER_NAMES, BalancedMixUp, MixedTarget, Stream
from rarevoxel.sampling.centres import as_plain
from rarevoxel.transforms import build_case, build_patches

CACHED_CASES = 200
"""Cases whose preprocessed volumes stay in memory (about 10 MB each at 2 mm); the rest are read anew."""

MIXUP_ALPHA = 0.2
"""Balanced-MixUp's alpha: its authors' default."""

_OPTIONS: dict[str, dict[str, float]] = {"pos_neg": {"foreground": 0.5}, "square_root": {"exponent": 0.5}}

Target = torch.Tensor | MixedTarget
Batch = tuple[torch.Tensor, Target, list[str]]
_Patches = list[dict[str, Any]]


class PatchBatches:
    """Makes the batches of every epoch, each case met once per epoch.

    Args:
        config: transforms, patch size and patches per case.
        cases: `{"id", "image", "label"}` of the cases to learn from.
        sampler: one of `rarevoxel.sampling.SAMPLER_NAMES`.
        seed: of all draws.

    Raises:
        RequestError: if the sampler is unknown.
    """

    def __init__(self, config: AppConfig, cases: Sequence[Mapping[str, Any]], sampler: str, seed: int) -> None:
        if sampler not in SAMPLER_NAMES:
            raise unknown_name("sampler", sampler, SAMPLER_NAMES)
        self.cases = CacheDataset(
            [dict(case) for case in cases], build_case(config), cache_num=CACHED_CASES, num_workers=1, progress=False
        )
        self.rng = np.random.default_rng(seed)
        self.mixup = BalancedMixUp(MIXUP_ALPHA, seed=seed) if sampler == "balanced_mixup" else None
        stream: Stream = "instance" if sampler in ("instance", "balanced_mixup") else "balanced"
        self.first = _seeded(build_patches(config, stream, **_OPTIONS.get(sampler, {})), seed)
        self.second = _seeded(build_patches(config, "balanced"), seed + 1) if self.mixup else None

    def epoch(self, batch_size: int) -> Iterator[Batch]:
        """Yield image `(B, C, h, w, d)`, target and case names; the next case is prepared meanwhile."""
        order = self.rng.permutation(len(self.cases)).tolist()
        # Balanced-MixUp draws its second stream with replacement.
        partners = self.rng.integers(len(self.cases), size=len(order)).tolist()
        waiting: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._draw, order[0], partners[0])
            for position in range(len(order)):
                waiting += coming.result()
                last = position + 1 == len(order)
                if not last:
                    coming = pool.submit(self._draw, order[position + 1], partners[position + 1])
                while len(waiting) >= batch_size or (waiting and last):
                    yield self._batch(waiting[:batch_size])
                    waiting = waiting[batch_size:]

    def _draw(self, case: int, partner: int) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        first: _Patches = self.first(dict(self.cases[case]))
        if self.second is None:
            return [(patch, None) for patch in first]
        return list(zip(first, self.second(dict(self.cases[partner])), strict=True))

    def _batch(self, pairs: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> Batch:
        first = [patch for patch, _ in pairs]
        second = [patch for _, patch in pairs if patch is not None]
        names = [str(patch["id"]) for patch in (*first, *second)]
        if self.mixup is None:
            return (*_stack(first), names)
        return (*self.mixup.mix(_stack(first), _stack(second)), names)


def _seeded(chain: Compose, seed: int) -> Compose:
    chain.set_random_state(seed)
    return chain


def _stack(patches: Sequence[Mapping[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    # Augmentation makes a MetaTensor of whatever it is given, and every operation on one costs more.
    image, label = (torch.stack([as_plain(patch[key]) for patch in patches]) for key in ("image", "label"))
    return image, label

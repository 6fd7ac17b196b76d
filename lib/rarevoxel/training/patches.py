"""Batches of patches, drawn from cached cases the way a sampler asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Compose

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling import SAMPLER_NAMES, BalancedMixUp, Stream
from rarevoxel.sampling.centres import as_plain
from rarevoxel.training.random_state import (
    generator_state,
    set_generator_state,
    set_transform_states,
    transform_states,
)
from rarevoxel.training.step import Part, Target
from rarevoxel.training.tolerant import cached_cases, readable, reason_of
from rarevoxel.transforms import build_case, build_patches

logger = logging.getLogger(__name__)

MIXUP_ALPHA = 0.2
"""Balanced-MixUp's alpha: its authors' default."""

_OPTIONS: dict[str, dict[str, float]] = {"pos_neg": {"foreground": 0.5}, "square_root": {"exponent": 0.5}}

_Patch = dict[str, Any]
_Pairs = list[tuple[_Patch, _Patch | None]]


class Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        image: `(B, C, h, w, d)`.
        target: `(B, R, h, w, d)`, mixed for Balanced-MixUp.
        parts: the patches it was made of, for Balanced-MixUp those of the first stream and then of the second.
    """

    image: torch.Tensor
    target: Target
    parts: list[Part]


class PatchBatches:
    """Makes the batches of every epoch, each case met once per epoch.

    A case that cannot be read, or of which no patch can be drawn, is left out from then on.

    Args:
        config: transforms, patch size and patches per case.
        cases: `{"id", "image", "label"}` of the cases to learn from.
        sampler: one of `rarevoxel.sampling.SAMPLER_NAMES`.
        seed: of all draws.

    Attributes:
        skipped: case id -> why it was left out.

    Raises:
        RequestError: if the sampler is unknown.
    """

    def __init__(self, config: AppConfig, cases: Sequence[Mapping[str, Any]], sampler: str, seed: int) -> None:
        if sampler not in SAMPLER_NAMES:
            raise unknown_name("sampler", sampler, SAMPLER_NAMES)
        self.names = [str(case["id"]) for case in cases]
        self.cases = cached_cases(cases, build_case(config))
        self.rng = np.random.default_rng(seed)
        self.mixup = BalancedMixUp(MIXUP_ALPHA, seed=seed) if sampler == "balanced_mixup" else None
        stream: Stream = "instance" if sampler in ("instance", "balanced_mixup") else "balanced"
        self.first = _seeded(build_patches(config, stream, **_OPTIONS.get(sampler, {})), seed)
        self.second = _seeded(build_patches(config, "balanced"), seed + 1) if self.mixup else None
        self.skipped: dict[str, str] = {}

    def epoch(self, batch_size: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; the next case is prepared meanwhile.

        Raises:
            TrainingError: if no case is left to learn from.
        """
        usable = np.array([i for i, name in enumerate(self.names) if name not in self.skipped], dtype=np.int64)
        order = usable[self.rng.permutation(len(usable))].tolist()
        # Balanced-MixUp draws its second stream with replacement.
        partners = usable[self.rng.integers(len(usable), size=len(order))].tolist()
        waiting: _Pairs = []
        with ThreadPoolExecutor(1) as pool:
            coming: Future[_Pairs] = pool.submit(self._draw, order[0], partners[0])
            for position in range(len(order)):
                waiting += coming.result()
                last = position + 1 == len(order)
                if not last:
                    coming = pool.submit(self._draw, order[position + 1], partners[position + 1])
                while len(waiting) >= batch_size or (waiting and last):
                    yield self._batch(waiting[:batch_size])
                    waiting = waiting[batch_size:]

    def state(self) -> dict[str, Any]:
        """Return the state of all draws as plain data and tensors; to be taken between epochs."""
        # The truth value of a chain is its length, and asking for that seeds its transforms anew.
        return {
            "order": generator_state(self.rng),
            "first": transform_states(self.first),
            "second": transform_states(self.second) if self.second is not None else {},
            "mixup": self.mixup.state() if self.mixup is not None else {},
            "skipped": dict(self.skipped),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of equally made batches.

        Raises:
            KeyError: if it is of others.
        """
        set_generator_state(self.rng, state["order"])
        set_transform_states(self.first, state["first"])
        if self.second is not None and self.mixup is not None:
            set_transform_states(self.second, state["second"])
            self.mixup.restore(state["mixup"])
        self.skipped = dict(state["skipped"])

    def _draw(self, case: int, partner: int) -> _Pairs:
        first = self._patches(self.first, case)
        if self.second is None or not first:
            return [(patch, None) for patch in first]
        second = self._patches(self.second, partner) or self._patches(self.second, case)
        return list(zip(first, second, strict=bool(second)))

    def _patches(self, chain: Compose, case: int) -> list[_Patch]:
        """The patches of a case, none when it has been left out."""
        name = self.names[case]
        if name in self.skipped:
            return []
        try:
            drawn: list[_Patch] = chain(readable(self.cases[case]))
        except MemoryError:
            raise
        except Exception as error:  # One case of many must not end the run, whatever is wrong with it.
            self.skipped[name] = reason_of(error)
            logger.warning("left out from now on: %s: %s", name, self.skipped[name])
            if len(self.skipped) == len(set(self.names)):
                msg = f"no case is left to learn from; the last: {name}: {self.skipped[name]}"
                raise TrainingError(msg, "check that the studies folder can be read") from error
            return []
        return drawn

    def _batch(self, pairs: _Pairs) -> Batch:
        first = [patch for patch, _ in pairs]
        second = [patch for _, patch in pairs if patch is not None]
        parts = [(str(patch["id"]), as_plain(patch["image"]), as_plain(patch["label"])) for patch in (*first, *second)]
        if self.mixup is None:
            return Batch(*_stack(first), parts)
        return Batch(*self.mixup.mix(_stack(first), _stack(second)), parts)


def _seeded(chain: Compose, seed: int) -> Compose:
    chain.set_random_state(seed)
    return chain


def _stack(patches: Sequence[Mapping[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    # Augmentation makes a MetaTensor of whatever it is given, and every operation on one costs more.
    image, label = (torch.stack([as_plain(patch[key]) for patch in patches]) for key in ("image", "label"))
    return image, label

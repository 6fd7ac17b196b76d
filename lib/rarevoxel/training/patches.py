"""Batches of patches, drawn from cached cases the way a sampler asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Compose

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling import SAMPLER_NAMES, BalancedMixUp, Stream
from rarevoxel.sampling.centres import as_plain
from rarevoxel.training.case_cache import CaseCache, made_by
from rarevoxel.training.distributed import Group
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

    A case that cannot be read, or of which no patch can be drawn, is left out from then on. What is drawn of a case
    depends on seed, epoch and case alone, so several processes can each draw their part of one sequence of batches,
    and an epoch can be taken up anywhere.

    Args:
        config: transforms, patch size and patches per case.
        cases: `{"id", "image", "label"}` of the cases to learn from.
        sampler: one of `rarevoxel.sampling.SAMPLER_NAMES`.
        seed: of all draws.
        cache: folder that prepared cases are kept in from run to run; without one they are kept in memory.

    Attributes:
        skipped: case id -> why it was left out.
        epochs: that have begun.

    Raises:
        RequestError: if the sampler is unknown.
    """

    def __init__(
        self, config: AppConfig, cases: Sequence[Mapping[str, Any]], sampler: str, seed: int, cache: Path | None = None
    ) -> None:
        if sampler not in SAMPLER_NAMES:
            raise unknown_name("sampler", sampler, SAMPLER_NAMES)
        self.names = [str(case["id"]) for case in cases]
        self.cases: Any = (
            cached_cases(cases, build_case(config))
            if cache is None
            else CaseCache(cases, build_case(config), made_by(config.preprocessing, config.training.patch_size), cache)
        )
        self.seed = seed
        self.per_case = config.training.patches_per_case
        self.mixup = BalancedMixUp(MIXUP_ALPHA) if sampler == "balanced_mixup" else None
        stream: Stream = "instance" if sampler in ("instance", "balanced_mixup") else "balanced"
        self.first = build_patches(config, stream, **_OPTIONS.get(sampler, {}))
        self.second = build_patches(config, "balanced") if self.mixup else None
        self.skipped: dict[str, str] = {}
        self.epochs = 0

    def epoch(self, batch_size: int, group: Group = Group()) -> Iterator[Batch | None]:  # noqa: B008
        """Yield this process's part of each batch of an epoch; the next case is prepared meanwhile.

        Args:
            batch_size: patches of all processes together.
            group: the processes; alone, every part is a whole batch.

        Yields:
            None where this process has no part, as in the last batch when that is small, or where its cases cannot be
            read. A batch that no case is left for is not yielded to a process that is alone.

        Raises:
            TrainingError: if no case is left to learn from.
        """
        self.epochs += 1
        rng = np.random.default_rng([self.seed, self.epochs])
        usable = np.array([i for i, name in enumerate(self.names) if name not in self.skipped], dtype=np.int64)
        order = usable[rng.permutation(len(usable))].tolist()
        # Balanced-MixUp draws its second stream with replacement.
        partners = usable[rng.integers(len(usable), size=len(order))].tolist()
        if self.mixup is not None:
            self.mixup.reseed(int(rng.integers(2**31)))
        total = len(order) * self.per_case
        mine = [group.part(start, min(start + batch_size, total)) for start in range(0, total, batch_size)]
        with ThreadPoolExecutor(1) as pool:
            drawn = _Ahead(
                pool, [place // self.per_case for part in mine for place in part], order, partners, self._draw
            )
            for part in mine:
                pairs = [pair for place in part for pair in drawn.patch(*divmod(place, self.per_case))]
                batch = self._batch(pairs) if pairs else None
                if batch is not None or group.world > 1:
                    yield batch
        for told in group.gather(self.skipped):
            self.skipped.update(told)
        if self.skipped.keys() >= set(self.names):
            name, reason = list(self.skipped.items())[-1]
            msg = f"no case is left to learn from; the last: {name}: {reason}"
            raise TrainingError(msg, "check that the studies folder can be read")

    def state(self) -> dict[str, Any]:
        """Return what the draws depend on beside the arguments; to be taken between epochs."""
        return {"epochs": self.epochs, "skipped": dict(self.skipped)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of equally made batches.

        Raises:
            KeyError: if it is of others.
        """
        self.epochs, self.skipped = int(state["epochs"]), dict(state["skipped"])

    def _draw(self, case: int, partner: int) -> _Pairs:
        first = self._patches(self.first, case, 0)
        if self.second is None or not first:
            return [(patch, None) for patch in first]
        second = self._patches(self.second, partner, 1) or self._patches(self.second, case, 1)
        return list(zip(first, second, strict=bool(second)))

    def _patches(self, chain: Compose, case: int, stream: int) -> list[_Patch]:
        """The patches of a case, none when it has been left out."""
        name = self.names[case]
        if name in self.skipped:
            return []
        try:
            (seed,) = np.random.SeedSequence([self.seed, self.epochs, case, stream]).generate_state(1)
            chain.set_random_state(int(seed))
            drawn: list[_Patch] = chain(readable(self.cases[case]))
        except MemoryError:
            raise
        except Exception as error:  # One case of many must not end the run, whatever is wrong with it.
            self.skipped[name] = reason_of(error)
            logger.warning("left out from now on: %s: %s", name, self.skipped[name])
            return []
        return drawn

    def _batch(self, pairs: _Pairs) -> Batch:
        first = [patch for patch, _ in pairs]
        second = [patch for _, patch in pairs if patch is not None]
        parts = [(str(patch["id"]), as_plain(patch["image"]), as_plain(patch["label"])) for patch in (*first, *second)]
        if self.mixup is None:
            return Batch(*_stack(first), parts)
        return Batch(*self.mixup.mix(_stack(first), _stack(second)), parts)


class _Ahead:
    """Patches of cases in the order they are needed, each case drawn once and while the one before is used.

    Args:
        pool: one thread.
        needed: positions in `order`, repeated as often as patches are taken.
        order: cases.
        partners: of the second stream.
        draw: returns the patches of a case and its partner.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        needed: Sequence[int],
        order: Sequence[int],
        partners: Sequence[int],
        draw: Callable[[int, int], _Pairs],
    ) -> None:
        self.pool, self.order, self.partners, self.draw = pool, order, partners, draw
        self.waiting = list(dict.fromkeys(needed))
        self.position, self.patches = -1, _Pairs()
        self.coming: Future[_Pairs] | None = None
        self._ask()

    def patch(self, position: int, number: int) -> _Pairs:
        """Return patch `number` of the case at a position in a list, an empty one if there is none."""
        if position != self.position:
            self.position = position
            self.patches = self.coming.result() if self.coming else []
            self._ask()
        return self.patches[number : number + 1]

    def _ask(self) -> None:
        if self.waiting:
            at = self.waiting.pop(0)
            self.coming = self.pool.submit(self.draw, self.order[at], self.partners[at])


def _stack(patches: Sequence[Mapping[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    # Augmentation makes a MetaTensor of whatever it is given, and every operation on one costs more.
    image, label = (torch.stack([as_plain(patch[key]) for patch in patches]) for key in ("image", "label"))
    return image, label

"""What is replayed: the ways to choose and to train, and how much is labelled and trained in every round."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.comparison.data import Entry, Fold, fold_record
from rarevoxel.comparison.spec import Budget, fingerprint
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.inference.ensemble import METHODS
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.losses import check_loss_name
from rarevoxel.losses.checks import unknown_name

VERSION = 1
"""Of what a record holds; records of another one are not read."""


def usable_strategies() -> tuple[str, ...]:
    """Return the strategies that can be replayed: all but those that send labels back."""
    return tuple(name for name, ranking in STRATEGIES.items() if ranking.kind != "labels")


@dataclass(frozen=True)
class Arm:
    """A way to choose with a way to train.

    Args:
        strategy: one of `usable_strategies`.
        loss: a name or sum that `rarevoxel.losses.build_loss` takes.

    Raises:
        RequestError: for an unknown strategy or loss.
    """

    strategy: str
    loss: str

    def __post_init__(self) -> None:
        if self.strategy not in usable_strategies():
            raise unknown_name("strategy", self.strategy, usable_strategies())
        check_loss_name(self.loss)

    @property
    def name(self) -> str:
        """As reports call it, for example `random + dice_ce`."""
        return f"{self.strategy} + {self.loss}"


@dataclass(frozen=True)
class Schedule:
    """How a campaign goes on.

    Args:
        start: cases labelled before the first training, drawn by the seed and the same for all arms.
        per_round: cases labelled after every training.
        rounds: trainings after the first.
        steps: optimisation steps of every training; as many whatever the number of cases.
        samples: how a case is asked several times, one of `rarevoxel.inference.ensemble.METHODS`.
        noise: chance that the annotator overlooks a small lesion, see `Annotator`.
        going_on: start a training from the weights of the one before, as the server does; else from those of the start.

    Raises:
        RequestError: if a number is impossible.
    """

    start: int = 6
    per_round: int = 5
    rounds: int = 5
    steps: int = 100
    samples: str = "none"
    noise: float = 0.0
    going_on: bool = True

    def __post_init__(self) -> None:
        for name in ("start", "per_round", "rounds", "steps"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.samples not in METHODS:
            raise unknown_name("samples", self.samples, METHODS)
        if not (0 <= self.noise <= 1 and math.isfinite(self.noise)):
            raise RequestError(
                f"noise ({self.noise}) must lie between 0 and 1", "it is the chance to overlook a lesion"
            )

    @property
    def labelled(self) -> list[int]:
        """Cases labelled at every training."""
        return [self.start + number * self.per_round for number in range(self.rounds + 1)]

    def check(self, fold: Fold) -> None:
        """Raise unless a set has the cases the schedule needs.

        Raises:
            ConflictError: naming how many there are and how many are needed.
        """
        if len(fold.train) < self.labelled[-1]:
            msg = f"{fold.name}: {len(fold.train)} cases to choose from, expected at least {self.labelled[-1]}"
            raise ConflictError(
                f"{msg} ({self.start} + {self.rounds} rounds of {self.per_round})",
                "ask for fewer rounds or fewer cases a round, or give more cases",
            )
        if not fold.test:
            raise ConflictError(f"{fold.name}: no case to test with, expected at least one", "give more cases")

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Campaign:
    """One annotator's work with one arm.

    Args:
        fold: cases to choose from (`train`) and to test with.
        data: of `data_key(fold)`.
        arm: how cases are chosen and networks trained.
        seed: of the first cases, the draws and the weights.
        schedule: how it goes on.
        budget: network and training, shared by all arms; its `epochs` do not count.
    """

    fold: Fold
    data: str
    arm: Arm
    seed: int
    schedule: Schedule
    budget: Budget

    def first_cases(self) -> list[str]:
        """Return the cases labelled first: drawn by the seed alone, so the same for all arms."""
        ids = sorted(entry.id for entry in self.fold.train)
        drawn = np.random.default_rng([self.seed, 7]).permutation(len(ids))[: self.schedule.start]
        return [ids[at] for at in sorted(drawn.tolist())]

    def entries(self) -> dict[str, Entry]:
        """Return id -> case of all that may be labelled."""
        return {entry.id: entry for entry in self.fold.train}

    def key(self, number: int) -> str:
        """Return the name of a round: of everything its outcome depends on. All strategies share the first round."""
        schedule = {name: value for name, value in self.schedule.to_dict().items() if name != "rounds"}
        budget = {name: value for name, value in self.budget.to_dict().items() if name != "epochs"}
        strategy = self.arm.strategy if number else ""
        content = [VERSION, self.data, strategy, self.arm.loss, self.seed, schedule, budget, number]
        return (
            f"{self.fold.name}-{self.arm.strategy if number else 'start'}-{self.seed}-{number}-{fingerprint(content)}"
        )

    def record(self, folder: Path, number: int) -> Path:
        """Return where the record of a round lies."""
        return folder / "rounds" / f"{self.key(number)}.json"

    def weights(self, folder: Path, number: int) -> Path:
        """Return where the weights of a round lie."""
        return folder / "weights" / f"{self.key(number)}.pt"


def data_key(fold: Fold) -> str:
    """Return a fingerprint of the cases by name and of their labels by content.

    Raises:
        OSError: if a label cannot be read.
    """
    labels = [hashlib.sha256(Path(entry.label).read_bytes()).hexdigest() for entry in (*fold.train, *fold.test)]
    return fingerprint([fold_record(fold), labels])

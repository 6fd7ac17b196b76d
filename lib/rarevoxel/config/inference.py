"""How masks are predicted, and how cases are scored for who labels next."""

from __future__ import annotations

from dataclasses import dataclass

from rarevoxel.config.require import require

PASSES = ("auto", "always")
"""When an image is one pass: when it fits the window, or whenever it fits the memory."""

PRECISIONS = ("auto", "bfloat16", "float32")
"""What convolutions are computed in: what is measured to be faster, or one of the two."""


@dataclass(frozen=True)
class InferenceConfig:
    """How a mask is predicted.

    Args:
        window: largest piece (voxels at network spacing) predicted in one pass; larger brains are tiled.
        overlap: overlap of neighbouring windows, 0 to 0.9.
        threshold: probability from which a voxel belongs to a region.
        mirror: axes (0 to 2, of the oriented volume) along which the image is also predicted mirrored; the
            probabilities of all combinations are averaged, so each axis doubles the time.
        smallest_mm3: connected pieces of tumour below this volume are left out; 0 keeps everything.
        single_pass: one of `PASSES`; `always` is for weights that were trained on patches as large as brains.
        precision: one of `PRECISIONS`; the environment variable `RAREVOXEL_PRECISION` goes before it.
        memory_mib: most memory one prediction may take, by which windows become smaller, down to half of `window`; 0
            for half of what is free at the time.
        cache_mib: most memory for preprocessed cases that are kept for the next click on them; 0 for none.
    """

    window: tuple[int, ...] = (96, 112, 96)
    overlap: float = 0.25
    threshold: float = 0.5
    mirror: tuple[int, ...] = ()
    smallest_mm3: float = 0.0
    single_pass: str = "auto"
    precision: str = "auto"
    memory_mib: int = 0
    cache_mib: int = 256

    def __post_init__(self) -> None:
        require(self.single_pass in PASSES, f"single_pass ({self.single_pass!r}) must be one of {PASSES}")
        require(self.precision in PRECISIONS, f"precision ({self.precision!r}) must be one of {PRECISIONS}")
        for name in ("memory_mib", "cache_mib"):
            require(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) must be >= 0")
        require(self.smallest_mm3 >= 0, f"smallest_mm3 ({self.smallest_mm3}) must be >= 0")
        require(0 <= self.overlap <= 0.9, f"overlap ({self.overlap}) must lie between 0 and 0.9")
        axes = len(set(self.mirror)) == len(self.mirror) and set(self.mirror) <= {0, 1, 2}
        require(axes, f"mirror ({self.mirror}) must name axes 0, 1, 2, each at most once")
        require(0 < self.threshold < 1, f"threshold ({self.threshold}) must lie between 0 and 1")
        require(len(self.window) == 3 and min(self.window) >= 16, f"window ({self.window}) must be 3 values >= 16")


SCORING_METHODS = ("tta", "dropout", "snapshots", "none")
"""How a model is asked about a case nobody has labelled, see `rarevoxel.inference.ensemble`."""


@dataclass(frozen=True)
class ActiveConfig:
    """How the server finds out which case to label next.

    Args:
        scoring: whether a process beside the server scores the cases.
        method: one of `SCORING_METHODS`. Asked once (`none`), entropy ranks cases as well as over samples, at less than
            half the cost; mutual information takes samples, and those by `dropout` are worth more than those by `tta`
            (measured by `benchmarks/uncertainty.py`).
        idle_s: seconds without a prediction for a client before scoring starts.
    """

    scoring: bool = True
    method: str = "none"
    idle_s: float = 30.0

    def __post_init__(self) -> None:
        require(self.method in SCORING_METHODS, f"method ({self.method!r}) must be one of {SCORING_METHODS}")
        require(0 <= self.idle_s <= 86400, f"idle_s ({self.idle_s}) must lie between 0 and 86400 s")

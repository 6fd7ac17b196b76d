"""A comparison as `summarize` returns it, with numbers a test can choose."""

from __future__ import annotations

from typing import Any

from rarevoxel.evaluation import EMPTY_POLICY, SIZE_BANDS, THRESHOLDS

METRICS = ("dice", "hd95", "ece", "dice_WT", "dice_TC", "dice_ET", "lesion_recall", "lesion_precision", "lesion_f1")
ERROR = {"code": "training", "message": "loss is <nan> | epoch 3", "hint": "lower the learning rate"}


def a_method(name: str, shift: float = 0.0, p: float | None = 1.0, seeds: int = 3, **extra: Any) -> dict[str, Any]:
    """A method whose scores lie `shift` above Dice 0.6, and whose differences all have the adjusted p given."""
    base = dict.fromkeys(METRICS, 0.6) | {"hd95": 12.0, "ece": 0.01, "recall_at_precision": 0.4}
    scores = {
        metric: {"value": value + shift, "low": value + shift - 0.05, "high": value + shift + 0.05}
        for metric, value in base.items()
    }
    against = {
        metric: {
            "difference": shift, "low": shift - 0.02, "high": shift + 0.02, "simultaneous_low": shift - 0.03,
            "simultaneous_high": shift + 0.03, "p": p, "p_adjusted": p, "n_cases": 20, "n_seeds": seeds,
        }
        for metric in base
    }  # fmt: skip
    curve: list[list[float | None]] = [
        [level, max(0.0, 0.8 - 0.5 * level + shift), min(1.0, 0.3 + 0.6 * level)] for level in THRESHOLDS
    ]
    curve[-1] = [THRESHOLDS[-1], 0.0, None]
    bands = {
        band: [float(truth), truth * (0.2 + 0.2 * at + shift), 10.0, 5.0]
        for at, (band, truth) in enumerate(zip(SIZE_BANDS, (40, 25, 10, 0), strict=True))
    }
    return {
        "method": name,
        "failed": [],
        "reasons": {"tiny": f"{name!r} was asked for by name."},
        "loss": [name],
        "sampler": ["balanced"],
        "dropped": {},
        "thresholds": [],
        "seconds": 61.4,
        "scores": scores,
        "against": against,
        "dice_by_seed": [0.6 + shift + 0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)],
        "bands": bands,
        "curve": curve,
        **extra,
    }


def a_baseline(name: str = "dice_ce", **extra: Any) -> dict[str, Any]:
    return a_method(name, **extra) | {"against": {}}


def a_failure(name: str = "bce", **extra: Any) -> dict[str, Any]:
    entry = a_method(name, **extra)
    for key in ("scores", "against", "dice_by_seed", "bands", "curve"):
        del entry[key]
    return entry | {"failed": [{"seed": 1, "fold": "tiny", **ERROR}], "reasons": {}, "loss": [], "sampler": []}


def a_regime(*methods: dict[str, Any], name: str = "tiny", phantoms: bool = True, folds: int = 1) -> dict[str, Any]:
    names = [name] if folds == 1 else [f"{name}-{number + 1}" for number in range(folds)]
    size = {
        "n": 24, "empty": 1, "median_ml": 1.234, "skewness": 2.5, "kurtosis": 7.25, "branch": "log10",
        "stability": 0.875, "imbalance": 1234.4, "components": 2.25,
    }  # fmt: skip
    nothing = size | {"branch": "bce_dice", "stability": None, "skewness": None, "imbalance": None}
    return {
        "regime": name,
        "phantoms": phantoms,
        "folds": [
            {
                "regime": name, "name": fold, "phantoms": phantoms,
                "train": [f"{fold}-a{i}" for i in range(24)], "tune": [f"{fold}-b{i}" for i in range(4)],
                "test": [f"{fold}-c{i}" for i in range(20)],
            }
            for fold in names
        ],
        "sizes": {fold: {"WT": size, "TC": size | {"median_ml": 0.5}, "ET": nothing} for fold in names},
        "cases": 20 * folds,
        "seeds": 3,
        "precision": 0.6,
        "methods": list(methods),
    }  # fmt: skip


def a_summary(*regimes: dict[str, Any], baseline: str = "dice_ce", seeds: int = 3) -> dict[str, Any]:
    names = dict.fromkeys(entry["method"] for regime in regimes for entry in regime["methods"])
    return {
        "baseline": baseline,
        "budget": {
            "network": (8, 16, 32, 64), "patch": 32, "epochs": 12, "patches_per_case": 2, "batch_size": 2,
            "learning_rate": 3e-3, "spacing": 2.5,
        },
        "methods": [
            {
                "name": name,
                "loss": name.removeprefix("two_stage:").split("/")[0].split("@")[0],
                "sampler": "auto",
                "filter": "none",
                "two_stage": name.startswith("two_stage:"),
            }
            for name in names
        ],
        "seeds": list(range(seeds)),
        "confidence": 0.95,
        "resamples": 2000,
        "empty_policy": EMPTY_POLICY,
        "regimes": list(regimes),
    }  # fmt: skip


AUTO = {
    "reasons": {"tiny": "CALF by lesion size: WT log10 (n=24); Dice of weight 1 beside it."},
    "loss": ["calf"],
}
"""What `auto` chose."""


def three() -> dict[str, Any]:
    """The baseline, `auto` better, `top_k` worse, `dice_focal` not different, `bce` failed; one regime."""
    return a_summary(
        a_regime(
            a_baseline(),
            a_method("auto", 0.1, 0.01, **AUTO),
            a_method("top_k", -0.1, 0.0004, dropped={"tiny": {"tiny-a1": "volume 9 < 10 | outlier"}}),
            a_method("dice_focal", 0.02, 0.05),
            a_failure(),
        )
    )


def many() -> dict[str, Any]:
    """Fourteen methods with long names in four regimes, two of them failed or unjudged somewhere."""
    names = (
        "bce", "focal", "top_k", "dice_focal", "dice_focal@balanced_mixup", "calf_log10", "tversky", "lmf",
        "lesion_dice+bce", "unified_focal/outliers", "two_stage:dice_ce@balanced_mixup/outliers+empty", "auto",
    )  # fmt: skip
    regimes = []
    for shift, regime in enumerate(("moderate", "tiny", "multifocal", "left_skewed")):
        methods = [
            a_method(name, 0.02 * ((3 * at + 5 * shift) % 11 - 5), 0.01 * ((7 * at + shift) % 12), seeds=3)
            for at, name in enumerate(names)
        ]
        regimes.append(a_regime(a_baseline(), *methods, a_failure("wbce"), name=regime))
    return a_summary(*regimes)

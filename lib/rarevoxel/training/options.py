"""What a client may ask of a training run, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rarevoxel.config import AppConfig
from rarevoxel.errors import RequestError
from rarevoxel.losses import LOSS_NAMES, check_loss_name
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling import SAMPLER_NAMES
from rarevoxel.transforms.filter_rules import FILTER_NAMES, parse_filter

_HOST_KEYS = frozenset(
    [
        "model",
        "device",
        "gpus",
        "multi_gpu",
        "local_rank",
        "description",
        "client_id",
        "name",
        "dataset",
        "train_batch_size",
        "val_batch_size",
        "val_split",
        "tracking",
        "tracking_uri",
        "tracking_experiment_name",
        "enqueue",
        "run_id",
        "bundle_path",
        "train_random_seed",
        "gpu_ids",
        "early_stop_patience",
        "early_stop_max_epochs",
    ]
)
"""Keys that MONAI Label or its clients add to every request; they have no effect here."""


SAMPLERS = ("auto", *SAMPLER_NAMES)
"""`auto` is what belongs to the chosen loss, see `rarevoxel.losses.LossChoice.sampler`."""

INTENSITIES = ("as_trained", "zscore", "skewness")
"""Intensity preprocessing: that of the weights the run starts from; z-score alone; or before it, per sequence, the
power transform that the skewness of the training intensities asks for."""


@dataclass(frozen=True)
class TrainOptions:
    """Validated options of one run.

    Args:
        loss: a name or sum that `rarevoxel.losses.build_loss` takes; `auto` measures the labels and chooses.
        max_epochs: 1 to 10000.
        learning_rate: above 0, at most 1.
        batch_size: patches per step, 1 to 64.
        patches_per_case: patches drawn per case and epoch, 1 to 64.
        seed: any whole number from 0.
        pretrained: start from the weights in service instead of from noise.
        sampler: one of `SAMPLERS`: how patches are drawn.
        filter: names of `FILTER_NAMES` joined by `+`: which training cases are left out, with reasons.
        intensity: one of `INTENSITIES`.
    """

    loss: str
    max_epochs: int
    learning_rate: float
    batch_size: int
    patches_per_case: int
    seed: int
    pretrained: bool = True
    sampler: str = "auto"
    filter: str = "none"
    intensity: str = "as_trained"

    @classmethod
    def from_request(cls, request: Mapping[str, Any], config: AppConfig, loss: str) -> TrainOptions:
        """Read options from a client's request, filling gaps from `config` and the model's own `loss`.

        A list counts as its first entry, the way combo boxes arrive from clients that do not pick one.

        Raises:
            RequestError: naming the option, the value found and what was expected.
        """
        known = cls.__dataclass_fields__
        unknown = sorted(set(request) - set(known) - _HOST_KEYS)
        if unknown:
            msg = f"unknown training option {unknown}, expected some of {sorted(known)}"
            raise RequestError(msg, "remove the option or mend its name")
        values = {key: _first(value) for key, value in request.items() if key in known}
        training = config.training
        chosen = str(values.get("loss") or loss)
        check_loss_name(chosen)
        filtered = str(values.get("filter") or "none")
        parse_filter(filtered)
        return cls(
            loss=chosen,
            max_epochs=_whole(values, "max_epochs", training.max_epochs, 1, 10_000),
            learning_rate=_number(values, "learning_rate", training.learning_rate, 0.0, 1.0),
            batch_size=_whole(values, "batch_size", training.batch_size, 1, 64),
            patches_per_case=_whole(values, "patches_per_case", training.patches_per_case, 1, 64),
            seed=_whole(values, "seed", training.seed, 0, 2**31 - 1),
            pretrained=_switch(values, "pretrained", True),
            sampler=_one_of(values, "sampler", SAMPLERS),
            filter=filtered,
            intensity=_one_of(values, "intensity", INTENSITIES),
        )

    @staticmethod
    def choices(config: AppConfig, loss: str) -> dict[str, Any]:
        """Return the options as a client shows them: a list becomes a combo box, a bool a check box."""
        training = config.training
        return {
            "loss": [loss, *(name for name in LOSS_NAMES if name != loss)],
            "max_epochs": training.max_epochs,
            "learning_rate": training.learning_rate,
            "batch_size": training.batch_size,
            "patches_per_case": training.patches_per_case,
            "pretrained": True,
            "sampler": list(SAMPLERS),
            "filter": list(FILTER_NAMES),
            "intensity": list(INTENSITIES),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return asdict(self)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and value else value


def _whole(values: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    number = _number(values, name, default, low, high, inclusive=True)
    if number != int(number):
        raise RequestError(f"{name}: found {values[name]!r}, expected a whole number from {low} to {high}")
    return int(number)


def _number(
    values: Mapping[str, Any], name: str, default: float, low: float, high: float, *, inclusive: bool = False
) -> float:
    value = values.get(name)
    if value is None or value == "":
        return default
    expected = f"a number {'from' if inclusive else 'above'} {low:g} to {high:g}"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (low <= number <= high) or (not inclusive and number == low):
        raise RequestError(f"{name}: found {value!r}, expected {expected}", f"the default is {default:g}")
    return number


def _one_of(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = str(values.get(name) or known[0])
    if value not in known:
        raise unknown_name(name, value, known)
    return value


def _switch(values: Mapping[str, Any], name: str, default: bool) -> bool:
    value = values.get(name, default)
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise RequestError(f"{name}: found {value!r}, expected true or false")
    return text in ("true", "1", "yes")

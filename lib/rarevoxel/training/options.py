"""What a client may ask of a training run, checked before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from copy import deepcopy
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


PROPERTIES: dict[str, dict[str, Any]] = {
    "loss": {
        "type": "string",
        "maxLength": 200,
        "examples": list(LOSS_NAMES),
        "description": "a loss or a sum of losses such as dice+0.5*focal; auto measures the labels and chooses",
    },
    "max_epochs": {"type": "integer", "minimum": 1, "maximum": 10_000, "description": "passes over the cases"},
    "learning_rate": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "peak learning rate"},
    "batch_size": {"type": "integer", "minimum": 1, "maximum": 64, "description": "patches per step"},
    "accumulate": {
        "type": "integer",
        "minimum": 1,
        "maximum": 64,
        "default": 1,
        "description": "passes a step is computed in: the same result in less memory",
    },
    "patches_per_case": {"type": "integer", "minimum": 1, "maximum": 64, "description": "patches per case and epoch"},
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "description": "seed of everything random"},
    "pretrained": {"type": "boolean", "default": True, "description": "start from the weights in service"},
    "sampler": {"type": "string", "enum": list(SAMPLERS), "default": "auto", "description": "how patches are drawn"},
    "filter": {
        "type": "string",
        "maxLength": 200,
        "examples": list(FILTER_NAMES),
        "default": "none",
        "description": "rules joined by + that leave training cases out, each with a reason",
    },
    "intensity": {
        "type": "string",
        "enum": list(INTENSITIES),
        "default": "as_trained",
        "description": "intensity preprocessing",
    },
    "anchor": {
        "type": "number",
        "minimum": 0,
        "maximum": 1_000_000,
        "description": "pull towards the weights the run starts from, against forgetting; 0 for none",
    },
    "resume": {
        "type": "boolean",
        "default": True,
        "description": "go on with an interrupted run of the same options and cases",
    },
}
"""What every option may be, as JSON schema: the one place of all bounds."""

UNTOLD = ("resume", "accumulate")
"""Options on which the result of a run does not depend."""


@dataclass(frozen=True)
class TrainOptions:
    """Validated options of one run; `PROPERTIES` has their bounds.

    Args:
        loss: a name or sum that `rarevoxel.losses.build_loss` takes; `auto` measures the labels and chooses.
        max_epochs: passes over the training cases.
        learning_rate: peak of the one-cycle schedule.
        batch_size: patches per step, of all processes together.
        patches_per_case: patches drawn per case and epoch.
        seed: of everything random.
        pretrained: start from the weights in service instead of from noise.
        sampler: one of `SAMPLERS`: how patches are drawn.
        filter: names of `FILTER_NAMES` joined by `+`: which training cases are left out, with reasons.
        intensity: one of `INTENSITIES`.
        resume: go on with an interrupted run of the same options and cases, if there is one.
        anchor: pull towards the weights the run starts from, see `rarevoxel.training.anchor.Anchor`; a run from random
            weights has none.
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
    resume: bool = True
    anchor: float = 0.0
    accumulate: int = 1

    @classmethod
    def from_request(cls, request: Mapping[str, Any], config: AppConfig, loss: str) -> TrainOptions:
        """Read options from a client's request, filling gaps from `config` and the model's own `loss`.

        A list counts as its first entry, the way combo boxes arrive from clients that do not pick one.

        Raises:
            RequestError: naming the option, the value found and what was expected.
        """
        unknown = sorted(set(request) - set(PROPERTIES) - _HOST_KEYS)
        if unknown:
            shown = [name[:40] for name in unknown[:5]]
            near = [difflib.get_close_matches(name, PROPERTIES, n=1, cutoff=0.0)[0] for name in shown]
            msg = f"unknown training option {shown}, expected some of {sorted(PROPERTIES)}"
            raise RequestError(msg, f"did you mean {', '.join(dict.fromkeys(near))}?")
        schema = cls.schema(config, loss)["properties"]
        values = {name: _value(name, request.get(name), schema[name]) for name in PROPERTIES}
        check_loss_name(values["loss"])
        parse_filter(values["filter"])
        return cls(**values)

    @staticmethod
    def schema(config: AppConfig, loss: str = "auto") -> dict[str, Any]:
        """Return the options as JSON schema (draft 2020-12), with the defaults of an app.

        Args:
            config: gives the defaults.
            loss: the model's own loss.
        """
        properties = deepcopy(PROPERTIES)
        for name in ("max_epochs", "learning_rate", "batch_size", "patches_per_case", "seed", "anchor"):
            properties[name]["default"] = getattr(config.training, name)
        properties["loss"]["default"] = loss
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Training options",
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }

    @staticmethod
    def choices(config: AppConfig, loss: str) -> dict[str, Any]:
        """Return the options as a client shows them: a list becomes a combo box, a bool a check box."""
        training = config.training
        shown = {
            "loss": [loss, *(name for name in LOSS_NAMES if name != loss)],
            "max_epochs": training.max_epochs,
            "learning_rate": training.learning_rate,
            "batch_size": training.batch_size,
            "patches_per_case": training.patches_per_case,
            "pretrained": True,
            "resume": True,
            "sampler": list(SAMPLERS),
            "filter": list(FILTER_NAMES),
            "intensity": list(INTENSITIES),
        }
        # A client shows 0 as an empty field.
        return {**shown, "anchor": training.anchor} if training.anchor else shown

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return asdict(self)


def _value(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    empty = value is None or value == "" or (value == [] and schema["type"] == "string")
    if not empty and isinstance(value, (list, tuple)) and value:
        value = value[0]
        empty = value is None or value == ""
    if empty:
        return schema["default"]
    if schema["type"] == "boolean":
        return _switch(name, value)
    if schema["type"] == "string":
        return _text(name, value, schema)
    return _number(name, value, schema)


def _number(name: str, value: Any, schema: Mapping[str, Any]) -> float:
    whole, high = schema["type"] == "integer", schema["maximum"]
    low = schema["minimum"] if "minimum" in schema else schema["exclusiveMinimum"]
    expected = f"{'from' if 'minimum' in schema else 'above'} {low:g} to {high:g}"
    if whole:
        expected = f"from {low} to {high}"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not (low <= number <= high) or ("exclusiveMinimum" in schema and number == low):
        hint = f"the default is {schema['default']:g}"
        raise RequestError(f"{name}: found {_short(value)}, expected a number {expected}", hint)
    if not whole:
        return number
    if number != int(number):
        raise RequestError(f"{name}: found {_short(value)}, expected a whole number {expected}")
    return int(number)


def _text(name: str, value: Any, schema: Mapping[str, Any]) -> str:
    text = str(value)
    if "enum" in schema and text not in schema["enum"]:
        raise unknown_name(name, text[:80], schema["enum"])
    if len(text) > schema.get("maxLength", len(text)):
        msg = f"{name}: found {len(text)} characters, expected at most {schema['maxLength']}"
        raise RequestError(msg, f"the default is {schema['default']}")
    return text


def _switch(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise RequestError(f"{name}: found {_short(value)}, expected true or false")
    return text in ("true", "1", "yes")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""JSON from clients: an object, of known keys, with values that can be what they claim to be."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from rarevoxel.errors import MalformedError

COMMON = ("client_id",)
INFER = ("result_extension", "result_dtype", "result_compress", "restore_label_idx", "label_info", "device")
LABEL = ("label_info", "model", "scheme", "empty", "comment", "if_match")
IMAGE = ("force", "label_info")
TRAIN_REFUSED = (
    *("train_ds", "val_ds", "bundle_path", "tracking_uri", "tracking_experiment_name", "model", "model_filename"),
    *("run_id", "image", "label", "session", "session_id", "local_rank", "user", "method", "path"),
)
"""Keys that the host would obey: files of the server to read, places to write, code to load."""
BATCH = ("device", "multi_gpu", "gpus", "logging", "save_label", "label_tag", "max_workers", "max_batch_size")
RESULT_EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
INFO_REFUSED = ("id", "path", "weight", "ts", "name", "strategy", "checksum", "user", "image", "label", "tag")
"""What a reply says by itself, so that no note of a client's can stand in its place."""

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?|", re.ASCII)
_GPUS = re.compile(r"all|\d{1,2}(,\d{1,2})*|", re.ASCII)
_DTYPE = re.compile(r"u?int(8|16|32|64)|float(16|32|64)|", re.ASCII)
_KEY = re.compile(r"[A-Za-z][\w.\-]{0,63}", re.ASCII)
_SHOWN = 40


def parse_object(text: str, what: str = "params") -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: as sent; empty counts as an empty object.
        what: its name in messages.

    Returns:
        The object.

    Raises:
        MalformedError: for what is no JSON, too deeply nested, or no object.
    """
    try:
        value = json.loads(text) if text else {}
    except RecursionError as error:
        raise MalformedError(f"{what} is nested too deeply", "send a flat JSON object") from error
    except ValueError as error:
        raise MalformedError(f"{what} is not JSON: {error}", "send a JSON object") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is a JSON {type(value).__name__}, expected an object", "send a JSON object")
    return value


def check_keys(values: Mapping[str, Any], allowed: Collection[str], what: str = "params") -> None:
    """Raise if an object has keys that nobody asked for.

    Raises:
        MalformedError: naming them and listing the allowed keys.
    """
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        found = ", ".join(_short(key) for key in unknown[:5])
        raise MalformedError(f"{what} has {found}, which is not allowed", f"allowed: {', '.join(sorted(allowed))}")


def check_infer(values: Mapping[str, Any], options: Collection[str]) -> None:
    """Check the parameters of an inference.

    Args:
        values: as sent.
        options: what the model itself offers, see `/info/`.

    Raises:
        MalformedError: for an unknown key or an impossible value.
    """
    check_keys(values, {*COMMON, *INFER, *options})
    _check_pattern(values, "device", _DEVICE, "auto, cpu, mps, cuda or cuda:0")
    _check_pattern(values, "result_dtype", _DTYPE, "a type of numbers such as uint8")
    suffix = values.get("result_extension")
    if suffix not in (None, "", *RESULT_EXTENSIONS):
        msg = f"result_extension is {_short(suffix)}, expected one of {', '.join(RESULT_EXTENSIONS)}"
        raise MalformedError(msg, f"allowed: {', '.join(sorted({*COMMON, *INFER, *options}))}")


def check_training(values: Mapping[str, Any], options: Collection[str]) -> None:
    """Refuse what the host would obey in a training request; the options themselves are checked by the trainer.

    Raises:
        MalformedError: for a key of `TRAIN_REFUSED`, or GPUs that are no list of numbers.
    """
    refused = sorted(set(values) & set(TRAIN_REFUSED))
    if refused:
        msg = f"the training request has {', '.join(refused)}, which no client may set"
        raise MalformedError(msg, f"allowed: {', '.join(sorted(options))}")
    _check_pattern(values, "gpus", _GPUS, "all, or numbers joined by commas")


def check_batch(values: Mapping[str, Any]) -> None:
    """Check the body of a batch inference.

    Raises:
        MalformedError: for an unknown key or an impossible value.
    """
    check_keys(values, {*COMMON, *BATCH})
    _check_pattern(values, "device", _DEVICE, "auto, cpu, mps, cuda or cuda:0")
    _check_pattern(values, "gpus", _GPUS, "all, or numbers joined by commas")
    _check_pattern(values, "label_tag", re.compile(r"[A-Za-z0-9][\w\-]{0,63}", re.ASCII), "a tag")
    _check_pattern(values, "logging", re.compile("DEBUG|INFO|WARNING|ERROR"), "a log level")
    for key in ("max_workers", "max_batch_size"):
        value = values.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 64:
            raise MalformedError(f"{key} is {_short(value)}, expected a whole number from 0 to 64")
    for key in ("multi_gpu", "save_label"):
        if not isinstance(values.get(key, True), bool):
            raise MalformedError(f"{key} is {_short(values[key])}, expected true or false")


def check_info(values: Mapping[str, Any]) -> None:
    """Check what a client wants noted about an image or a label.

    Raises:
        MalformedError: for a key that is no word, or that replies use themselves.
    """
    for key in values:
        if not _KEY.fullmatch(key) or key in INFO_REFUSED:
            msg = f"info has the key {_short(key)}, which is not allowed"
            raise MalformedError(msg, f"letters, digits, '_', '-', '.'; none of {', '.join(INFO_REFUSED)}")


def _check_pattern(values: Mapping[str, Any], key: str, pattern: re.Pattern[str], expected: str) -> None:
    value = values.get(key)
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise MalformedError(f"{key} is {_short(value)}, expected {expected}")


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

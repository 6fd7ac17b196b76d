"""What a client may ask of a training run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rarevoxel.config import AppConfig
from rarevoxel.errors import RequestError
from rarevoxel.losses import LOSS_NAMES
from rarevoxel.sampling import SAMPLER_NAMES
from rarevoxel.training import TrainOptions


def test_an_empty_request_takes_the_defaults(config: AppConfig) -> None:
    options = TrainOptions.from_request({}, config, "dice_focal")
    training = config.training
    assert options == TrainOptions(
        "dice_focal",
        training.max_epochs,
        training.learning_rate,
        training.batch_size,
        training.patches_per_case,
        0,
        True,
        "auto",
        "none",
        "as_trained",
        True,
    )


def test_what_a_client_sends_counts(config: AppConfig) -> None:
    request = {
        "loss": "dice_ce", "max_epochs": "7", "learning_rate": 1e-4, "batch_size": 3, "patches_per_case": 5.0,
        "seed": 11, "pretrained": "false", "sampler": "balanced_mixup", "filter": "empty+tiny:100",
        "intensity": "skewness", "resume": "no",
    }  # fmt: skip
    assert TrainOptions.from_request(request, config, "auto") == TrainOptions(
        "dice_ce", 7, 1e-4, 3, 5, 11, False, "balanced_mixup", "empty+tiny:100", "skewness", False
    )


def test_a_list_counts_as_its_first_entry(config: AppConfig) -> None:
    options = TrainOptions.from_request({"loss": ["dice", "auto"], "max_epochs": [3, 9], "seed": (2,)}, config, "auto")
    assert (options.loss, options.max_epochs, options.seed) == ("dice", 3, 2)
    request = {"sampler": ["instance", "auto"], "filter": ["outliers", "none"], "intensity": ["zscore"]}
    options = TrainOptions.from_request(request, config, "auto")
    assert (options.sampler, options.filter, options.intensity) == ("instance", "outliers", "zscore")


@pytest.mark.parametrize("empty", [None, "", []])
def test_an_empty_value_is_the_default(config: AppConfig, empty: Any) -> None:
    if empty != []:
        assert TrainOptions.from_request({"max_epochs": empty}, config, "auto").max_epochs == 2
    names = {"loss": empty, "sampler": empty, "filter": empty, "intensity": empty}
    assert TrainOptions.from_request(names, config, "auto") == TrainOptions.from_request({}, config, "auto")


@pytest.mark.parametrize(
    "loss", ["dice+0.5*focal", "dice_ce+0.5*lesion_dice", "2*ce", "calf_ln", "calf_log10_published"]
)
def test_a_sum_of_losses_is_a_loss(config: AppConfig, loss: str) -> None:
    assert TrainOptions.from_request({"loss": loss}, config, "auto").loss == loss
    assert TrainOptions.from_request({}, config, loss).loss == loss, "and may be a model's own"


def test_what_the_host_adds_is_no_option(config: AppConfig) -> None:
    host = {"model": "calf", "gpus": "all", "client_id": None, "local_rank": 0, "device": ["cpu"], "enqueue": True}
    assert TrainOptions.from_request(host, config, "auto") == TrainOptions.from_request({}, config, "auto")


BAD: list[tuple[str, Any, str]] = [
    ("max_epochs", "x", r"max_epochs: found 'x', expected a number from 1 to 10000 \(the default is 2\)"),
    ("max_epochs", -1, "max_epochs: found -1, expected a number from 1 to 10000"),
    ("max_epochs", 0, "max_epochs: found 0, expected"),
    ("max_epochs", 1e9, "max_epochs: found 1000000000.0, expected a number from 1 to 10000"),
    ("max_epochs", 2.5, "max_epochs: found 2.5, expected a whole number from 1 to 10000"),
    ("max_epochs", True, "max_epochs: found True, expected a number"),
    ("max_epochs", float("nan"), "max_epochs: found nan, expected a number"),
    ("max_epochs", {"a": 1}, r"max_epochs: found \{'a': 1\}, expected a number"),
    ("max_epochs", [], r"max_epochs: found \[\], expected a number"),
    ("max_epochs", [[3]], r"max_epochs: found \[3\], expected a number"),
    ("max_epochs", 10**400, r"max_epochs: found 1000+\.\.\., expected a number from 1 to 10000"),
    ("max_epochs", "9" * 5000, r"max_epochs: found '999+\.\.\., expected a number from 1 to 10000"),
    ("max_epochs", "1e999", "max_epochs: found '1e999', expected a number"),
    ("seed", 2**31, "seed: found 2147483648, expected a number from 0 to 2147483647"),
    ("learning_rate", False, "learning_rate: found False, expected a number above 0 to 1"),
    ("learning_rate", float("-inf"), "learning_rate: found -inf"),
    ("resume", "later", "resume: found 'later', expected true or false"),
    ("resume", 2, "resume: found 2, expected true or false"),
    ("loss", False, "unknown loss 'False'"),
    ("loss", [["dice"]], "unknown loss"),
    ("loss", "dice+" * 100, "loss: found 500 characters, expected at most 200"),
    ("filter", "x" * 10_000, "filter: found 10000 characters, expected at most 200"),
    ("epoch" * 100, 3, r"unknown training option \['epochepoch.{30}'\], expected some of"),
    ("learning_rate", 0, "learning_rate: found 0, expected a number above 0 to 1"),
    ("learning_rate", -0.1, "learning_rate: found -0.1"),
    ("learning_rate", "inf", "learning_rate: found 'inf'"),
    ("batch_size", 65, "batch_size: found 65, expected a number from 1 to 64"),
    ("patches_per_case", "many", "patches_per_case: found 'many'"),
    ("seed", -3, "seed: found -3"),
    ("pretrained", "maybe", "pretrained: found 'maybe', expected true or false"),
    ("loss", "magic", "unknown loss 'magic', expected one of auto, .*dice_focal"),
    ("loss", ["magic"], "unknown loss 'magic'"),
    ("loss", "dice_cee", r"unknown loss 'dice_cee'.*\(did you mean 'dice_ce'\?\)"),
    ("loss", "dice+magic", "unknown loss 'magic'"),
    ("loss", "dice+0*focal", r"loss 'dice\+0\*focal': weight '0' found, expected a positive number"),
    ("sampler", "pos-neg", r"unknown sampler 'pos-neg', expected one of auto, pos_neg, .*did you mean 'pos_neg'"),
    ("sampler", True, "unknown sampler 'True'"),
    ("sampler", {"a": 1}, "unknown sampler"),
    ("filter", "outlier", r"unknown filter 'outlier', expected one of none, empty, .*did you mean 'outliers'"),
    ("filter", "empty+none", "repeats a name or joins 'none' to others"),
    ("filter", "tiny:small", "filter 'tiny:small': 'small' is not a number"),
    ("filter", 3, "unknown filter '3'"),
    ("intensity", "skew", r"unknown intensity 'skew', expected one of as_trained, zscore, skewness.*mean 'skewness'"),
    ("intensity", ["Zscore"], "unknown intensity 'Zscore'.*did you mean 'zscore'"),
    ("epochs", 3, r"unknown training option \['epochs'\], expected some of .*\(did you mean max_epochs\?\)"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_an_impossible_option_is_named(config: AppConfig, name: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainOptions.from_request({name: value}, config, "auto")


def test_several_unknown_options_are_all_named(config: AppConfig) -> None:
    with pytest.raises(RequestError, match=r"\['batchsize', 'lr_rate'\].*did you mean batch_size, learning_rate\?"):
        TrainOptions.from_request({"lr_rate": 1, "batchsize": 2, "max_epochs": 3}, config, "auto")


def test_the_schema_is_what_is_checked(config: AppConfig) -> None:
    """Every bound of the schema is where values begin to be refused, and every default is accepted."""
    schema = TrainOptions.schema(config, "dice_focal")
    assert set(schema["properties"]) == set(TrainOptions.__dataclass_fields__)
    assert schema["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema
    defaults = {name: entry["default"] for name, entry in schema["properties"].items()}
    assert TrainOptions.from_request({}, config, "dice_focal").to_dict() == defaults
    assert TrainOptions.from_request(defaults, config, "auto").to_dict() == defaults
    for name, entry in schema["properties"].items():
        assert entry["description"]
        good = [entry[key] for key in ("minimum", "maximum") if key in entry] + entry.get("enum", [])
        good += [True, False] if entry["type"] == "boolean" else entry.get("examples", [])
        assert good
        for value in good:
            assert getattr(TrainOptions.from_request({name: value}, config, "auto"), name) == value
        bad = [entry["maximum"] * 1.001 + 1] if "maximum" in entry else ["no such thing"]
        bad += [entry["minimum"] - 1] if "minimum" in entry else []
        bad += [entry["exclusiveMinimum"]] if "exclusiveMinimum" in entry else []
        for value in bad:
            with pytest.raises(RequestError, match=name):
                TrainOptions.from_request({name: value}, config, "auto")


def test_a_schema_is_nobody_else_s(config: AppConfig) -> None:
    TrainOptions.schema(config)["properties"]["loss"]["examples"].clear()
    assert TrainOptions.schema(config)["properties"]["loss"]["examples"]


def test_choices_are_what_a_combo_box_can_show(config: AppConfig) -> None:
    choices = TrainOptions.choices(config, "dice_focal")
    assert choices["loss"][0] == "dice_focal"
    assert sorted(choices["loss"]) == sorted(LOSS_NAMES)
    for value in choices.values():
        if isinstance(value, list):
            assert all(isinstance(item, str) for item in value)
        else:
            assert isinstance(value, bool) or value > 0  # The client shows 0 as an empty field.
    assert choices["sampler"] == ["auto", *SAMPLER_NAMES]
    assert choices["filter"][0] == "none"
    assert choices["intensity"] == ["as_trained", "zscore", "skewness"]
    assert all(len(item) <= 40 for value in choices.values() if isinstance(value, list) for item in value)
    shown = TrainOptions.from_request(choices, config, "auto")
    assert shown == TrainOptions.from_request({}, config, "dice_focal"), "what is shown first is the default"


def test_everything_that_is_shown_can_be_asked_for(config: AppConfig) -> None:
    for name, value in TrainOptions.choices(config, "auto").items():
        for item in value if isinstance(value, list) else [value]:
            assert getattr(TrainOptions.from_request({name: item}, config, "auto"), name) == item


def test_options_are_plain_data(config: AppConfig) -> None:
    options = TrainOptions.from_request({"seed": 4}, config, "auto")
    assert TrainOptions(**options.to_dict()) == options
    assert TrainOptions(**replace(options, seed=5).to_dict()) != options


def test_options_come_back_as_they_were(config: AppConfig) -> None:
    options = TrainOptions(
        "dice+0.5*focal", 3, 0.002, 5, 7, 9, False, "square_root", "empty+present_ratio:0.8", "skewness", False
    )
    record = json.loads(json.dumps(options.to_dict()))
    assert TrainOptions.from_request(record, config, "auto") == options

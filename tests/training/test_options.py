"""What a client may ask of a training run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rarevoxel.config import AppConfig
from rarevoxel.errors import RequestError
from rarevoxel.losses import LOSS_NAMES
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
    )


def test_what_a_client_sends_counts(config: AppConfig) -> None:
    request = {
        "loss": "dice_ce", "max_epochs": "7", "learning_rate": 1e-4, "batch_size": 3, "patches_per_case": 5.0,
        "seed": 11, "pretrained": "false",
    }  # fmt: skip
    assert TrainOptions.from_request(request, config, "auto") == TrainOptions("dice_ce", 7, 1e-4, 3, 5, 11, False)


def test_a_list_counts_as_its_first_entry(config: AppConfig) -> None:
    options = TrainOptions.from_request({"loss": ["dice", "auto"], "max_epochs": [3, 9], "seed": (2,)}, config, "auto")
    assert (options.loss, options.max_epochs, options.seed) == ("dice", 3, 2)


@pytest.mark.parametrize("empty", [None, "", []])
def test_an_empty_value_is_the_default(config: AppConfig, empty: Any) -> None:
    if empty != []:
        assert TrainOptions.from_request({"max_epochs": empty}, config, "auto").max_epochs == 2
    assert TrainOptions.from_request({"loss": empty}, config, "auto").loss == "auto"


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
    ("learning_rate", 0, "learning_rate: found 0, expected a number above 0 to 1"),
    ("learning_rate", -0.1, "learning_rate: found -0.1"),
    ("learning_rate", "inf", "learning_rate: found 'inf'"),
    ("batch_size", 65, "batch_size: found 65, expected a number from 1 to 64"),
    ("patches_per_case", "many", "patches_per_case: found 'many'"),
    ("seed", -3, "seed: found -3"),
    ("pretrained", "maybe", "pretrained: found 'maybe', expected true or false"),
    ("loss", "magic", "unknown loss 'magic', expected one of .*'auto'"),
    ("loss", ["magic"], "unknown loss 'magic'"),
    ("epochs", 3, r"unknown training option \['epochs'\], expected some of .*max_epochs"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_an_impossible_option_is_named(config: AppConfig, name: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TrainOptions.from_request({name: value}, config, "auto")


def test_choices_are_what_a_combo_box_can_show(config: AppConfig) -> None:
    choices = TrainOptions.choices(config, "dice_focal")
    assert choices["loss"][0] == "dice_focal"
    assert sorted(choices["loss"]) == sorted(LOSS_NAMES)
    for value in choices.values():
        if isinstance(value, list):
            assert all(isinstance(item, str) for item in value)
        else:
            assert isinstance(value, bool) or value > 0  # The client shows 0 as an empty field.
    assert TrainOptions.from_request(choices, config, "auto").loss == "dice_focal"


def test_options_are_plain_data(config: AppConfig) -> None:
    options = TrainOptions.from_request({"seed": 4}, config, "auto")
    assert TrainOptions(**options.to_dict()) == options
    assert TrainOptions(**replace(options, seed=5).to_dict()) != options

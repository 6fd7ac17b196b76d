from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.comparison.spec import Budget, Method, fingerprint, method_grid
from rarevoxel.errors import RequestError
from rarevoxel.losses import LOSS_NAMES
from rarevoxel.training.options import SAMPLERS

FILTERS = ("none", "empty", "outliers", "outliers:2.5", "empty+tiny:100", "present_ratio:0.8+outliers_skewed")


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        Method,
        loss=st.sampled_from([*LOSS_NAMES, "dice+0.5*focal", "lesion_dice_ce+2*top_k"]),
        sampler=st.sampled_from(SAMPLERS),
        filter=st.sampled_from(FILTERS),
        two_stage=st.booleans(),
    )
)
def test_a_name_says_everything(method: Method) -> None:
    assert Method.parse(method.name) == method
    assert Method.parse(method.name).name == method.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dice_ce@auto/none", "dice_ce"),
        (" two_stage: dice_ce @ balanced / Empty + OUTLIERS ", "two_stage:dice_ce@balanced/empty+outliers"),
        ("auto/outliers", "auto/outliers"),
        ("two_stage:calf", "two_stage:calf"),
    ],
)
def test_one_method_has_one_name(text: str, name: str) -> None:
    assert Method.parse(text).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dice_cee", "unknown loss 'dice_cee'.*did you mean 'dice_ce'"),
        ("", "unknown loss ''"),
        ("two_stages:dice_ce", "unknown loss 'two_stages:dice_ce'"),
        ("dice+-1*focal", "weight '-1' found"),
        ("dice_ce@mixup", "unknown sampler 'mixup', expected one of auto"),
        ("dice_ce/outlier", "unknown filter 'outlier'"),
        ("dice_ce/outliers@balanced", "unknown filter 'outliers@balanced'"),
        ("dice_ce/none+empty", "joins 'none' to others"),
        ("dice_ce/empty+", "unknown filter ''"),
    ],
)
def test_wrong_names(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Method.parse(text)


def test_a_grid_is_every_combination() -> None:
    grid = method_grid(iter(["bce", "auto"]), iter(["auto", "balanced"]), iter(["none", "empty"]))
    assert [method.name for method in grid] == [
        "bce", "bce/empty", "bce@balanced", "bce@balanced/empty",
        "auto", "auto/empty", "auto@balanced", "auto@balanced/empty",
    ]  # fmt: skip
    assert method_grid([], ["auto"], ["none"]) == ()
    with pytest.raises(RequestError, match="unknown sampler 'half'"):
        method_grid(["bce"], ["auto", "half"], ["none"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, r"epochs \(0\) must be a whole number above 0"),
        ({"epochs": 1.5}, r"epochs \(1.5\) must be a whole number"),
        ({"patches_per_case": -1}, r"patches_per_case \(-1\)"),
        ({"batch_size": 0}, r"batch_size \(0\)"),
        ({"learning_rate": 0.0}, r"learning_rate \(0.0\) must be above 0"),
        ({"learning_rate": float("nan")}, r"learning_rate \(nan\) must be above 0"),
        ({"spacing": float("inf")}, r"spacing \(inf\) must be above 0 and finite"),
        ({"patch": 26}, r"patch \(26\) must be a multiple of 4 above it"),
        ({"patch": 8}, r"patch \(8\) .* at least 16"),
        ({"patch": 16, "network": (4,) * 5}, r"patch \(16\) must be a multiple of 16 above it"),
        ({"network": (4, 4)}, r"network \(\(4, 4\)\) must have at least 3 levels"),
        ({"network": (4, 0, 4)}, r"network \(\(4, 0, 4\)\) must have at least 3 levels of at least 1 channel"),
        ({"network": ()}, r"network \(\(\)\)"),
        ({"pretraining": -1}, r"pretraining \(-1\) must be a whole number of epochs >= 0"),
        ({"pretraining": 0.5}, r"pretraining \(0.5\) must be"),
    ],
)
def test_impossible_budgets(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Budget(**wrong)


def test_a_run_gets_the_budget() -> None:
    config = Budget((4, 8, 16), 32, 5, 3, 7, 2e-3, 1.5).config()
    training = config.training
    assert (training.max_epochs, training.patches_per_case, training.batch_size) == (5, 3, 7)
    assert (training.patch_size, training.learning_rate) == ((32, 32, 32), 2e-3)
    assert config.network.filters == (4, 8, 16)
    assert config.preprocessing.spacing == (1.5, 1.5, 1.5)
    assert config.inference.mirror == ()
    assert config.inference.threshold == 0.5


@settings(deadline=None, max_examples=30)
@given(
    depth=st.integers(3, 5),
    steps=st.integers(2, 6),
    whole=st.tuples(*[st.integers(1, 50)] * 3),
    real=st.tuples(*[st.floats(1e-4, 10)] * 2),
)
def test_every_budget_that_is_taken_can_be_run(
    depth: int, steps: int, whole: tuple[int, int, int], real: tuple[float, float]
) -> None:
    try:
        budget = Budget((4,) * depth, steps * 2 ** (depth - 1), *whole, *real)
    except RequestError:
        assert steps * 2 ** (depth - 1) < 16
        return
    assert budget.config().training.max_epochs == whole[0]


def test_fingerprints_are_of_the_content() -> None:
    assert fingerprint([1, "a"]) == hashlib.sha256(b'[1, "a"]').hexdigest()[:12]
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint(Budget().to_dict()) == fingerprint(json.loads(json.dumps(Budget().to_dict())))
    assert fingerprint(Budget().to_dict()) != fingerprint(Budget(epochs=9).to_dict())

"""Power functions against scipy and numpy, and which of them skewness chooses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from scipy import special, stats

from rarevoxel.config import POWER_KINDS, PowerConfig
from rarevoxel.errors import InputError
from rarevoxel.transforms.power import PowerTransform, PowerTransformd, apply_power, invert_power
from rarevoxel.transforms.power_fit import brain_values, fit_power, fit_power_from_cases

UNIT = np.linspace(0.0, 1.0, 41)

POWERS = [
    PowerConfig(),
    PowerConfig("sqrt"),
    PowerConfig("log", shift=0.05),
    PowerConfig("log", shift=1.0, scale=3.0),
    *(PowerConfig("yeo_johnson", lmbda, scale=4.0) for lmbda in (-2.0, 0.0, 1e-13, 1e-7, 0.5, 1.0, 3.0)),
    *(PowerConfig("box_cox", lmbda, 0.05) for lmbda in (-2.0, 0.0, 1e-13, 1e-7, 0.5, 1.0, 3.0)),
]

powers = st.builds(
    PowerConfig,
    kind=st.sampled_from(POWER_KINDS),
    lmbda=st.floats(-5, 5),
    shift=st.floats(0.001, 100),
    scale=st.floats(0.001, 100),
)


def by_scipy(x: np.ndarray, power: PowerConfig) -> np.ndarray:
    t = power.scale * x + power.shift
    functions = {
        "none": lambda: x,
        "sqrt": lambda: np.sqrt(t),
        "log": lambda: np.log1p(t - 1),
        "yeo_johnson": lambda: stats.yeojohnson(t, power.lmbda),
        "box_cox": lambda: special.boxcox(t, power.lmbda),
    }
    return functions[power.kind]()


def skewed(kind: str, n: int = 4000) -> np.ndarray:
    """Values in [0, 1] as a case's brain gives them: clipped at 0.5 and 99.5 % and scaled."""
    rng = np.random.default_rng(0)
    raw = {
        "normal": lambda: rng.normal(size=n),
        "root": lambda: rng.normal(12.0, 1.5, n) ** 2,
        "lognormal": lambda: rng.lognormal(0.0, 0.6, n),
        "left": lambda: -rng.gamma(2.0, size=n),
    }[kind]()
    low, high = np.percentile(raw, [0.5, 99.5])
    return (np.clip(raw, low, high) - low) / (high - low)


def volume(seed: int = 0) -> torch.Tensor:
    """Two channels of both signs in a box, 0 around it."""
    rng = np.random.default_rng(seed)
    image = np.zeros((2, 9, 8, 7), np.float32)
    image[:, 1:8, 1:7, 1:6] = rng.normal(5.0, 40.0, (2, 7, 6, 5))
    return torch.from_numpy(image)


@pytest.mark.parametrize("power", POWERS, ids=str)
def test_equals_scipy_and_numpy(power: PowerConfig) -> None:
    expected = by_scipy(UNIT, power)
    np.testing.assert_allclose(apply_power(torch.from_numpy(UNIT), power), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(apply_power(torch.from_numpy(UNIT).float(), power), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("power", POWERS, ids=str)
def test_there_and_back(power: PowerConfig) -> None:
    x = torch.from_numpy(UNIT)
    torch.testing.assert_close(invert_power(apply_power(x, power), power), x, rtol=0, atol=1e-9)
    x = x.float()
    torch.testing.assert_close(invert_power(apply_power(x, power), power), x, rtol=0, atol=3e-3)


@pytest.mark.parametrize("power", POWERS, ids=str)
def test_a_value_the_function_never_takes_gives_the_nearer_end(power: PowerConfig) -> None:
    ends = apply_power(torch.tensor([0.0, 1.0]), power) + torch.tensor([-1.0, 1.0])
    assert invert_power(ends, power).tolist() == [0.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(power=powers)
def test_every_function_that_can_be_made_grows_and_is_finite(power: PowerConfig) -> None:
    x = torch.from_numpy(UNIT).float()
    y = apply_power(x, power)
    assert y.isfinite().all()
    assert y.square().sum().isfinite(), "a z-score squares it"
    # Rounding may turn two equal values round by an ulp, never more.
    assert (y.diff() >= -2e-7 * y.abs().max()).all()
    if power.scale >= 0.1:
        assert apply_power(x.double(), power)[-1] > apply_power(x.double(), power)[0]
    back = invert_power(torch.cat([y, torch.tensor([-1e30, -1.0, 0.0, 1.0, 1e30])]), power)
    assert ((back >= 0) & (back <= 1)).all()


def test_hand_numbers_clip_scale_power() -> None:
    # Brain -100, -10, 15, 90, 900: ranks 1 and 3 are -10 and 90, so [0, 0, 0.25, 1, 1].
    image = torch.tensor([0.0, -10.0, 900.0, 15.0, 90.0, -100.0]).reshape(1, 6, 1, 1)
    power = PowerTransform([PowerConfig("sqrt")], (25.0, 75.0))
    result = power(image)
    assert result.flatten().tolist() == pytest.approx([0, 0, 1, 0.5, 1, 0])
    assert torch.equal(result != 0, image != 0)
    assert power.inverse(result).flatten().tolist() == pytest.approx([0, 0, 1, 0.25, 1, 0])
    _, bounds = power.measured(image)
    assert power.inverse(result, bounds).flatten().tolist() == pytest.approx([0, -10, 90, 15, 90, -10])


@settings(max_examples=100, deadline=None)
@given(
    power=powers,
    values=st.lists(
        st.one_of(st.just(0.0), st.floats(-1e9, 1e9, width=32), st.sampled_from([-7.0, 5.0])), min_size=1, max_size=30
    ),
)
def test_harmless_on_any_image(power: PowerConfig, values: list[float]) -> None:
    image = torch.tensor(values).reshape(1, -1, 1, 1)
    transform = PowerTransform([power], (0.0, 100.0))
    result, bounds = transform.measured(image)
    assert result.isfinite().all()
    assert torch.equal(result != 0, image != 0)
    order = image.flatten()[image.flatten() != 0].argsort()
    ranked = result.flatten()[image.flatten() != 0][order]
    assert (ranked.diff() >= -2e-7 * (result.abs().max() + 1)).all()
    back = transform.inverse(result, bounds)
    assert torch.equal(back != 0, image != 0)
    assert ((back >= image.min()) & (back <= image.max().clamp(min=1e-37))).all()


def test_empty_and_constant_channels() -> None:
    image = volume()
    image[0] = 0
    image[1] = torch.where(image[1] != 0, 7.0, 0.0)
    transform = PowerTransform([PowerConfig("log", shift=0.05)] * 2)
    result, bounds = transform.measured(image)
    assert not result[0].any()
    torch.testing.assert_close(result[1][image[1] != 0].unique(), torch.tensor([np.log(0.05)], dtype=torch.float32))
    assert torch.equal(transform.inverse(result, bounds), image)


@pytest.mark.parametrize("wrap", [torch.clone, MetaTensor])
def test_the_dictionary_form_and_its_inverse(wrap) -> None:
    power = (PowerConfig("box_cox", 0.5, 0.05), PowerConfig("yeo_johnson", -0.5, scale=4.0))
    transform = PowerTransformd("image", power, (0.0, 100.0))
    data = {"image": wrap(volume()), "label": "untouched"}
    result = transform(data)
    assert torch.equal(result["image"].as_tensor(), PowerTransform(power, (0.0, 100.0))(volume()))
    assert result["label"] == "untouched"
    back = transform.inverse(result)
    torch.testing.assert_close(back["image"].as_tensor(), volume(), rtol=1e-3, atol=2e-2)
    assert back["image"].applied_operations == []
    assert [step["class"] for step in result["image"].applied_operations] == ["PowerTransformd"]
    assert torch.equal(data["image"], volume()), "the input must not change"


def test_one_function_per_channel() -> None:
    transform = PowerTransform([PowerConfig()] * 4)
    with pytest.raises(InputError, match=r"PowerTransform: image of shape \(2, 9, 8, 7\) needs .* found 4"):
        transform(volume())
    with pytest.raises(InputError, match=r"image of shape \(4, 2, 2, 2\) needs .* found 1"):
        transform.inverse(torch.ones(4, 2, 2, 2), [(0.0, 1.0)])
    with pytest.raises(InputError, match=r"percentiles \(\(3, 2\)\) must satisfy"):
        PowerTransform([PowerConfig()], (3, 2))


def test_skewness_chooses() -> None:
    fit = fit_power([skewed("normal"), skewed("root"), skewed("lognormal"), skewed("left")])
    normal, root, lognormal, left = fit.report
    assert [found.power.kind for found in fit.report[:3]] == ["none", "none", "log"]
    assert normal.candidates == {"none": normal.before}
    assert abs(root.before) < 0.5
    assert lognormal.before > 1
    assert abs(lognormal.after) < 0.2
    assert left.before < -0.5
    assert left.power.kind in ("yeo_johnson", "box_cox")
    assert left.power.lmbda > 1
    assert abs(left.after) < abs(left.before) - 0.5
    assert fit.power == tuple(found.power for found in fit.report)
    assert lognormal.reason.startswith(f"log: skewness {lognormal.before:.2f} -> {lognormal.after:.2f}, the s")


def test_the_report_is_what_the_fitted_function_does() -> None:
    for kind in ("lognormal", "left"):
        values = skewed(kind)
        found = fit_power([values]).report[0]
        assert found.n == values.size
        assert found.before == pytest.approx(stats.skew(values))
        assert found.after == pytest.approx(stats.skew(by_scipy(values, found.power)))
        assert found.after == found.candidates[found.power.kind]


def test_the_simplest_within_the_margin_is_preferred() -> None:
    values = np.linspace(0.1, 1.0, 500) ** 2.2
    found = fit_power([values]).report[0]
    others = {kind: abs(skewness) for kind, skewness in found.candidates.items()}
    assert found.power.kind == "sqrt"
    assert min(others, key=lambda kind: others[kind]) != "sqrt", "another is a little better"
    assert others["sqrt"] <= min(others.values()) + 0.1
    assert "the simplest within 0.1 of the smallest" in found.reason
    assert fit_power([values], ["box_cox"]).power[0].kind == "box_cox"
    assert fit_power([values], []).report[0].reason == f"none: skewness {found.before:.2f}, no other"


@pytest.mark.parametrize("kind", ["lognormal", "left"])
def test_exponents_are_scipy_s_maximum_likelihood(kind: str) -> None:
    values = skewed(kind, 1500)
    box_cox = fit_power([values], ["box_cox"]).power[0]
    assert box_cox.lmbda == pytest.approx(stats.boxcox_normmax(values + box_cox.shift, method="mle"), abs=2e-3)
    yeo_johnson = fit_power([values], ["yeo_johnson"]).power[0]
    assert yeo_johnson.scale == pytest.approx(1 / values.std(), rel=1e-4)
    assert yeo_johnson.lmbda == pytest.approx(stats.yeojohnson_normmax(values * yeo_johnson.scale), abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])), max_size=30))
def test_any_values_can_be_fitted(values: list[float]) -> None:
    found = fit_power([values]).report[0]
    assert abs(found.after) <= abs(found.before) or np.isnan(found.before)
    assert np.isfinite(apply_power(torch.tensor(values), found.power)).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_no_values_and_equal_values() -> None:
    none, equal = fit_power([[], [0.25] * 9]).report
    assert (none.power, none.reason) == (PowerConfig(), "none: no values")
    assert equal.reason == "none: skewness is undefined, all of 9 values are equal"
    assert equal.to_dict()["before"] is None


def test_a_seed_draws() -> None:
    values = skewed("lognormal")
    first, again, other = (fit_power([values], max_values=300, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.report[0].n == 300
    assert first.report[0].before != other.report[0].before


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(InputError, match=r"candidates \['cube'\] are unknown, expected some of \['none', 'sqrt'"):
        fit_power([[0.5]], ["log", "cube"])
    with pytest.raises(InputError, match=r"max_values \(1\) must be >= 2"):
        fit_power([[0.5]], max_values=1)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"sequence 1: value .* \(one of 2 such\) must be a number in \[0, 1\]"):
            fit_power([[0.5], [0.2, wrong, wrong]])


def cases() -> list[torch.Tensor]:
    """Two cases of other units: a log-normal sequence, a normal one with negative values, an empty one."""
    result = []
    for seed, unit in ((0, 1.0), (1, 700.0)):
        rng = np.random.default_rng(seed)
        image = np.zeros((3, 14, 14, 14), np.float32)
        image[0, 1:13, 1:13, 1:13] = unit * rng.lognormal(0, 0.6, (12, 12, 12))
        image[1, 1:13, 1:13, 1:13] = unit * rng.normal(-1, 1, (12, 12, 12))
        result.append(torch.from_numpy(image))
    return result


def test_from_cases() -> None:
    fit = fit_power_from_cases(iter(cases()), seed=3)
    assert [p.kind for p in fit.power] == ["log", "none", "none"]
    assert [found.n for found in fit.report] == [2 * 12**3, 2 * 12**3, 0]
    pooled = np.concatenate([brain_values(image)[0].numpy() for image in cases()])
    assert fit.report[0].before == pytest.approx(stats.skew(pooled.astype(np.float64)))
    other = [image * 3.0 for image in cases()]
    assert fit_power_from_cases(other, seed=3).report[0].before == pytest.approx(fit.report[0].before, rel=1e-4)
    assert fit_power_from_cases(cases(), per_case=100).report[0].n == 200
    assert fit_power_from_cases([]).power == ()


def test_fitted_on_cases_it_makes_each_case_less_skewed() -> None:
    fit = fit_power_from_cases(cases())
    for image in cases():
        result = PowerTransform(fit.power)(image)
        before, after = (abs(stats.skew(x[0][image[0] != 0].numpy())) for x in (image, result))
        assert after < before - 1


def test_cases_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"case 1: image of shape \(2, 2, 2, 2\), expected \(3, H, W, D\)"):
        fit_power_from_cases([cases()[0], torch.ones(2, 2, 2, 2)])
    with pytest.raises(InputError, match=r"case 0: image of shape \(2, 2, 2\), expected \(C, H, W, D\)"):
        fit_power_from_cases([torch.ones(2, 2, 2)])
    with pytest.raises(InputError, match="case 0, sequence 0: the brain has values that are not finite"):
        fit_power_from_cases([torch.full((1, 2, 2, 2), float("nan"))])

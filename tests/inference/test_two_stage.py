"""Two-stage background reuse: what a binary network may do to the regions, by hand, in the limits and end to end."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rarevoxel.config import AppConfig, NetworkConfig, Preprocessing
from rarevoxel.errors import ConfigError, InputError
from rarevoxel.inference import Engine, predict_probabilities, two_stage
from rarevoxel.inference.two_stage import CANDIDATES, FLOOR, combine, tune_threshold
from rarevoxel.labels import labels_to_regions
from rarevoxel.networks import (
    SecondStage,
    TwoStage,
    TwoStageNetwork,
    binary_from_regions,
    build_network,
    load_weights,
    save_weights,
)

Writer = Callable[..., Path]


def draw(seed: int, *leading: int, nested: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Region and foreground probabilities of 4 x 3 x 2 voxels, many of them small or at the ends of [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.rand((*leading, 4, 4, 3, 2), generator=generator) ** 3
    both[torch.rand(both.shape, generator=generator) < 0.1] = 0.0
    both[torch.rand(both.shape, generator=generator) < 0.1] = 1.0
    regions = both.narrow(-4, 0, 3)
    return (regions.cummin(dim=-4).values if nested else regions), both.narrow(-4, 3, 1)


def column(*values: float) -> torch.Tensor:
    """One voxel's channels."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def row(*values: float) -> torch.Tensor:
    """One channel of voxels in a row."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


seeds = st.integers(0, 10_000)
thresholds = st.floats(0.01, 0.99)


@pytest.mark.parametrize(
    ("f", "threshold", "form", "expected"),
    [
        (0.49, 0.5, "hard", (0.0, 0.0, 0.0)),
        (0.50, 0.5, "hard", (0.0, 0.0, 0.0)),
        (0.51, 0.5, "hard", (0.8, 0.4, 0.2)),
        (0.30, 0.2, "hard", (0.8, 0.4, 0.2)),
        (0.90, 0.5, "soft", (0.9, 0.45, 0.225)),
        (0.10, 0.5, "soft", (0.1, 0.05, 0.025)),
        (0.10, 0.2, "soft", (0.25, 0.125, 0.0625)),  # 0.1 / 0.4
        (0.20, 0.2, "soft", (0.5, 0.25, 0.125)),
        (0.60, 0.2, "soft", (0.75, 0.375, 0.1875)),  # 0.5 + 0.4 / 1.6
        (0.40, 0.8, "soft", (0.25, 0.125, 0.0625)),  # 0.4 / 1.6
        (0.90, 0.8, "soft", (0.75, 0.375, 0.1875)),  # 0.5 + 0.1 / 0.4
    ],
)
def test_by_hand(f: float, threshold: float, form: str, expected: tuple[float, ...]) -> None:
    found = combine(column(0.8, 0.4, 0.2), column(f), threshold, form)
    torch.testing.assert_close(found, column(*expected))


def test_the_defaults_are_the_thesis_s_rule() -> None:
    regions, foreground = draw(0)
    torch.testing.assert_close(combine(regions, foreground), combine(regions, foreground, 0.5, "hard"))
    assert TwoStage() == TwoStage(0.5, "hard")


def test_what_the_second_network_is_sure_of() -> None:
    regions, _ = draw(1, nested=True)
    regions[1, 0, 0, 0], regions[0, 0, 0, 0] = 0.3, 0.6
    none, all_ = torch.zeros(1, 4, 3, 2), torch.ones(1, 4, 3, 2)
    for form in ("hard", "soft"):
        assert not combine(regions, none, 0.5, form).any()
    assert torch.equal(combine(regions, all_, 0.5, "hard"), regions)
    soft = combine(regions, all_, 0.3, "soft")
    assert torch.equal(soft[:1], all_)
    assert soft[1, 0, 0, 0] == pytest.approx(0.5)
    seldom = torch.full((1, 4, 3, 2), 1e-30)
    assert torch.equal(combine(regions, seldom, 0.0, "hard"), regions), "threshold 0 spares what is not surely nothing"


@given(seeds)
def test_a_second_network_that_agrees_changes_nothing(seed: int) -> None:
    regions, _ = draw(seed, nested=True)
    regions = regions.clamp(min=FLOOR).cummin(dim=-4).values
    torch.testing.assert_close(combine(regions, regions[:1], 0.5, "soft"), regions, rtol=1e-6, atol=0)
    kept = combine(regions, regions[:1], 0.5, "hard")
    assert torch.equal(kept > 0.5, regions > 0.5)


@pytest.mark.parametrize("f", [0.0, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_where_there_is_no_tumour_at_all_there_is_no_kind_of_tumour(f: float, dtype: torch.dtype) -> None:
    for small in (0.0, 1e-45, 1e-30, 1e-12, 1e-7):
        regions = column(small, small, small).to(dtype)
        found = combine(regions, column(f).to(dtype), 0.5, "soft")
        assert found.dtype == dtype
        assert torch.isfinite(found).all()
        assert found[0].item() == pytest.approx(f, rel=1e-2, abs=1e-7)
        assert found[1:].max() <= 1.01 * regions.max().item() / FLOOR


@settings(max_examples=50)
@given(seeds, thresholds, st.sampled_from(["hard", "soft"]), st.sampled_from([(), (2,), (2, 3)]))
def test_probabilities_stay_probabilities_and_nested(
    seed: int, threshold: float, form: str, leading: tuple[int, ...]
) -> None:
    regions, foreground = draw(seed, *leading)
    before = regions.clone(), foreground.clone()
    found = combine(regions, foreground, threshold, form)
    assert found.shape == regions.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(regions, before[0])
    assert torch.equal(foreground, before[1])
    regions, foreground = draw(seed, *leading, nested=True)
    found = combine(regions, foreground, threshold, form)
    assert (found.diff(dim=-4) <= 0).all()


@settings(max_examples=50)
@given(seeds, thresholds)
def test_the_tuned_threshold_is_where_the_soft_form_decides(seed: int, threshold: float) -> None:
    regions, foreground = draw(seed)
    foreground[0, 0, 0, 0] = threshold
    found = combine(regions, foreground, threshold, "soft")
    assert torch.equal(found[:1] >= 0.5, foreground >= threshold)
    assert found[0, 0, 0, 0] == 0.5
    order = foreground.flatten().argsort()
    assert (found[0].flatten()[order].diff() >= 0).all(), "more foreground never means less tumour"
    mirrored = combine(regions, 1 - foreground, 1 - threshold, "soft")  # Tumour and background are alike.
    torch.testing.assert_close(mirrored[:1], 1 - found[:1], rtol=1e-4, atol=1e-5)


def counts(masks: torch.Tensor, truth: torch.Tensor) -> tuple[int, int]:
    return int((masks & truth).sum()), int((masks & ~truth).sum())


@settings(max_examples=60)
@given(seeds, thresholds)
def test_hard_masking_finds_no_more_and_errs_no_more(seed: int, threshold: float) -> None:
    regions, foreground = draw(seed)
    truth = torch.rand(regions.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.4
    plain, masked = regions >= 0.5, combine(regions, foreground, threshold, "hard") >= 0.5
    hits, wrong = counts(plain, truth)
    hits_after, wrong_after = counts(masked, truth)
    assert hits_after <= hits, "recall never rises"
    assert wrong_after <= wrong
    covering = torch.where(truth.any(0, keepdim=True), torch.ones(()), foreground)
    hits_after, wrong_after = counts(combine(regions, covering, threshold, "hard") >= 0.5, truth)
    assert hits_after == hits, "a mask that covers the truth costs no recall"
    assert hits_after * (hits + wrong) >= hits * (hits_after + wrong_after), "and precision never falls"


def test_hard_masking_can_cost_precision_when_it_takes_away_the_truth() -> None:
    regions = row(0.9, 0.9).expand(3, -1, -1, -1)
    truth = row(1.0, 0.0).expand(3, -1, -1, -1) > 0
    assert counts(regions >= 0.5, truth) == (3, 3)
    assert counts(combine(regions, row(0.1, 0.9)) >= 0.5, truth) == (0, 3)


@pytest.mark.parametrize(
    ("regions", "foreground"),
    [
        ((3, 4, 4, 4), (3, 4, 4, 4)),
        ((2, 4, 4, 4), (1, 4, 4, 4)),
        ((4, 4, 4, 4), (1, 4, 4, 4)),
        ((3, 4, 4, 4), (1, 4, 4, 5)),
        ((3, 4, 4, 4), (4, 4, 4)),
        ((2, 3, 4, 4, 4), (1, 1, 4, 4, 4)),
        ((3, 4, 4), (1, 4, 4)),
    ],
)
def test_shapes_that_do_not_fit(regions: tuple[int, ...], foreground: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"combine: regions shape .* expected probabilities \(\.\.\., 3, H, W, D\)"):
        combine(torch.zeros(regions), torch.zeros(foreground))


def test_masks_are_no_probabilities() -> None:
    with pytest.raises(InputError, match=r"torch\.bool.*expected probabilities"):
        combine(torch.zeros(3, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.bool))
    with pytest.raises(InputError, match=r"torch\.int64.*expected probabilities"):
        combine(torch.zeros(3, 2, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("form", ["hard", "soft"])
def test_impossible_thresholds(threshold: float, form: str) -> None:
    with pytest.raises(ConfigError, match=r"two-stage threshold \(.*\) must satisfy"):
        combine(column(1, 1, 1), column(1), threshold, form)


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match=r"threshold \(0\.0\) must satisfy 0 < threshold < 1 \(soft\)"):
        TwoStage(0.0, "soft")
    with pytest.raises(ConfigError, match=r"form \('medium'\) must be one of hard, soft"):
        combine(column(1, 1, 1), column(1), 0.5, "medium")


# Tuning


def only_whole(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.cat([probabilities, torch.zeros_like(probabilities), torch.zeros_like(probabilities)])


def test_a_score_table_by_hand() -> None:
    regions = only_whole(row(1, 1, 1, 1))
    truth = only_whole(row(1, 1, 0, 0))
    case = (regions, row(0.9, 0.4, 0.3, 0.1), truth)
    best, table = tune_threshold([case], "hard", (0.05, 0.2, 0.35, 0.5, 0.95))
    dice = {0.05: 4 / 6, 0.2: 4 / 5, 0.35: 1.0, 0.5: 2 / 3, 0.95: 0.0}
    assert table == pytest.approx({t: (wt + 1 + 1) / 3 for t, wt in dice.items()})  # TC and ET: nothing to find.
    assert best == 0.35
    other = (regions, row(0.9, 0.8, 0.6, 0.1), truth)
    best, table = tune_threshold([case, other], "hard", (0.35, 0.7))
    assert table == pytest.approx({0.35: ((1 + 2) / 3 + (0.8 + 2) / 3) / 2, 0.7: ((2 / 3 + 2) / 3 + 1) / 2})
    assert best == 0.35


def test_every_region_counts() -> None:
    regions = torch.ones(3, 2, 1, 1)
    truth = torch.cat([row(1, 1), row(1, 0), row(1, 0)])
    best, table = tune_threshold([(regions, row(0.9, 0.5), truth > 0)], "hard", (0.2, 0.7))
    assert table == pytest.approx({0.2: (1 + 2 / 3 + 2 / 3) / 3, 0.7: (2 / 3 + 1 + 1) / 3})
    assert best == 0.7, "WT alone would have chosen 0.2"


def test_the_soft_form_is_tuned_too() -> None:
    regions = only_whole(row(0.9, 0.2, 0.9, 0.1))
    case = (regions, row(0.9, 0.4, 0.3, 0.1), only_whole(row(1, 1, 0, 0)))
    best, table = tune_threshold([case], "soft", (0.2, 0.35, 0.5))
    assert table == pytest.approx({0.2: (0.8 + 2) / 3, 0.35: 1.0, 0.5: (2 / 3 + 2) / 3})
    assert best == 0.35
    hard = tune_threshold([case], "hard", (0.2, 0.35, 0.5))[1]
    assert max(hard.values()) < 1, "only the soft form can add a voxel that the regions missed"


def test_the_decision_is_the_engine_s() -> None:
    case = (only_whole(row(0.9, 0.4)), row(0.9, 0.9), only_whole(row(1, 1)))
    assert tune_threshold([case], "hard", (0.5,))[1] == pytest.approx({0.5: (2 / 3 + 2) / 3})
    assert tune_threshold([case], "hard", (0.5,), decision=0.3)[1] == pytest.approx({0.5: 1.0})


def test_of_equally_good_thresholds_the_middle_one() -> None:
    case = (only_whole(row(1, 1)), row(0.99, 0.01), only_whole(row(1, 0)))
    best, table = tune_threshold([case])
    assert tuple(table) == CANDIDATES == tuple(i / 20 for i in range(1, 20))
    assert set(table.values()) == {1.0}
    assert best == 0.5
    assert tune_threshold([case], "hard", (0.1, 0.55, 0.45, 0.9))[0] == 0.45
    assert tune_threshold([case], "hard", (0.2, 0.6))[0] == 0.6


def test_cases_are_read_once_and_threshold_0_is_no_second_stage() -> None:
    regions, foreground = draw(5)
    foreground = foreground.clamp(min=1e-6)
    read = []

    def cases():
        for i in range(2):
            read.append(i)
            yield regions, foreground, regions >= 0.5

    best, table = tune_threshold(cases(), "hard", (0.0, 0.5))
    assert read == [0, 1]
    assert (best, table[0.0]) == (0.0, 1.0)


def test_nothing_to_tune_on() -> None:
    with pytest.raises(InputError, match=r"no hold-out cases \(label more patients"):
        tune_threshold([])
    with pytest.raises(InputError, match="no candidate thresholds"):
        tune_threshold([], "hard", ())
    regions, foreground = draw(0)
    with pytest.raises(InputError, match=r"truth shape \(1, 4, 3, 2\), regions shape \(3, 4, 3, 2\)"):
        tune_threshold([(regions, foreground, foreground)])


# Through windows, mirror images and the engine


class Uneven(nn.Module):
    """Sees where a voxel lies, so mirroring matters."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.channels, self.slope = channels, slope

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, image.shape[2]).view(1, 1, -1, 1, 1)
        return 4 * image[:, : self.channels] + self.slope * ramp


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_mirror_images_are_averaged_before_the_second_stage_acts(form: str) -> None:
    image = torch.randn((1, 4, 8, 4, 8), generator=torch.Generator().manual_seed(0))
    two = TwoStageNetwork(Uneven(3, 2.0), SecondStage(Uneven(1, -3.0), NetworkConfig()))
    settings = {"window": (16, 16, 16), "overlap": 0.25, "multiple": 4}
    found = predict_probabilities(two, image, mirror=(0,), **settings)
    assert found.shape == (1, 4, 8, 4, 8)
    apart = [predict_probabilities(net, image, mirror=(0,), **settings) for net in (two.regions, two.foreground)]
    torch.testing.assert_close(found, torch.cat(apart, dim=1))
    looks = [
        predict_probabilities(two, image, **settings),
        predict_probabilities(two, image.flip(2), **settings).flip(2),
    ]
    mean = (looks[0] + looks[1]) / 2
    expected = combine(mean[:, :3], mean[:, 3:], 0.5, form)
    torch.testing.assert_close(combine(found[:, :3], found[:, 3:], 0.5, form), expected)
    each = sum(combine(look[:, :3], look[:, 3:], 0.5, form) for look in looks) / 2
    assert not torch.allclose(each, expected, atol=1e-2), "the order must matter, or this test shows nothing"


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAREVOXEL_PRECISION", "float32")


def whole_only(config: AppConfig, seed: int) -> nn.Module:
    """A random network that finds WT but never TC or ET."""
    torch.manual_seed(seed)
    network = build_network(config.network)
    head = network.output_block.conv.conv
    with torch.no_grad():
        head.weight[1:], head.bias[1:] = 0.0, -20.0
    return network


def predict(config: AppConfig, path: Path, network: nn.Module, case: Path, second: SecondStage | None = None):
    save_weights(path, network, config.network, config.preprocessing, {"name": path.stem}, second_stage=second)
    return Engine(config, [path], device="cpu").predict(case)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("mirror", [(), (1,)])
def test_the_engine_masks_on_the_display_grid(
    config: AppConfig, tmp_path: Path, case_folder: Path, mirror: tuple[int, ...]
) -> None:
    """At another spacing than the network's: each display voxel is decided by both networks, resampled alike."""
    config = replace(
        config,
        inference=replace(config.inference, mirror=mirror),
        preprocessing=replace(config.preprocessing, spacing=(5.0, 5.0, 5.0)),
    )
    torch.manual_seed(0)
    network, other = build_network(config.network), whole_only(config, 1)
    one = predict(config, tmp_path / "one.pt", network, case_folder)
    mask = predict(config, tmp_path / "mask.pt", other, case_folder).labels > 0
    second = SecondStage(binary_from_regions(other, config.network), config.network)
    two = predict(config, tmp_path / "two.pt", network, case_folder, second)
    assert (one.model["name"], one.model["weights"]) == ("one", "one.pt")
    assert "two_stage" not in one.model
    assert two.model["two_stage"] == {"threshold": 0.5, "form": "hard"}
    assert 0 < np.count_nonzero(two.labels) < np.count_nonzero(one.labels), "random weights must make a difference"
    assert np.count_nonzero(two.labels != np.where(mask, one.labels, 0)) <= 3  # Probabilities of 0.5 to the last bit.

    second = replace(second, settings=TwoStage(0.5, "soft"))
    soft = predict(config, tmp_path / "soft.pt", network, case_folder, second)
    assert soft.model["two_stage"] == {"threshold": 0.5, "form": "soft"}
    assert np.count_nonzero((soft.labels > 0) != mask) <= 3
    assert soft.regions_ml["WT"] == pytest.approx(labels_to_regions(soft.labels)[0].sum() * 0.064, abs=1e-3)


def test_thresholds_reach_the_mask(config: AppConfig, tmp_path: Path, case_folder: Path) -> None:
    torch.manual_seed(0)
    network = build_network(config.network)
    second = SecondStage(binary_from_regions(whole_only(config, 1), config.network), config.network)
    found = {}
    for threshold in (0.0, 0.5, 0.999):
        stage = replace(second, settings=TwoStage(threshold))
        found[threshold] = predict(config, tmp_path / "two.pt", network, case_folder, stage).labels
    assert np.array_equal(found[0.0], predict(config, tmp_path / "one.pt", network, case_folder).labels)
    sizes = [np.count_nonzero(labels) for labels in found.values()]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(("first", "second"), [(3, 5), (5, 3)])
def test_networks_of_different_depths(
    config: AppConfig, tmp_path: Path, write_case: Writer, first: int, second: int
) -> None:
    shapes = [NetworkConfig(filters=(2,) * levels) for levels in (first, second)]
    stage = SecondStage(build_network(shapes[1], out_channels=1), shapes[1])
    save_weights(
        tmp_path / "two.pt", build_network(shapes[0]), shapes[0], Preprocessing(spacing=(2.0,) * 3), {},
        second_stage=stage,
    )  # fmt: skip
    images = np.random.default_rng(0).normal(100, 10, (4, 20, 22, 5)).astype(np.float32)
    folder = write_case(tmp_path / "case", images, np.diag([2.0, 2.0, 2.0, 1.0]))
    engine = Engine(config, [tmp_path / "two.pt"], device="cpu")
    engine.warm_up()
    assert engine.predict(folder).labels.shape == (20, 22, 5)


def test_a_second_stage_comes_and_goes_with_its_file(config: AppConfig, tmp_path: Path, case_folder: Path) -> None:
    torch.manual_seed(0)
    network = build_network(config.network)
    never = build_network(config.network, out_channels=1)
    with torch.no_grad():
        never.output_block.conv.conv.weight.zero_()
        never.output_block.conv.conv.bias.fill_(-5.0)
    path = tmp_path / "calf.pt"
    save_weights(path, network, config.network, config.preprocessing, {})
    engine = Engine(config, [path], device="cpu")
    before = engine.predict(case_folder)
    assert before.labels.any()
    assert "two_stage" not in before.model
    stage = SecondStage(never, config.network, TwoStage(0.1))
    save_weights(path, network, config.network, config.preprocessing, {}, second_stage=stage)
    masked = engine.predict(case_folder)
    assert not masked.labels.any()
    assert masked.model["two_stage"] == {"threshold": 0.1, "form": "hard"}
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert engine.predict(case_folder).model == masked.model, "a torn file leaves both stages in service"
    save_weights(path, network, config.network, config.preprocessing, {})
    assert np.array_equal(engine.predict(case_folder).labels, before.labels)


def test_tuning_from_a_loaded_file(config: AppConfig, tmp_path: Path) -> None:
    """The road a trainer takes: one pass over a file's networks gives what `tune_threshold` reads."""
    torch.manual_seed(0)
    network = build_network(config.network)
    stage = SecondStage(binary_from_regions(network, config.network), config.network)
    save_weights(tmp_path / "two.pt", network, config.network, config.preprocessing, {}, second_stage=stage)
    loaded = load_weights(tmp_path / "two.pt")[0]
    image = torch.randn((1, 4, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    p = predict_probabilities(loaded, image, window=(16, 16, 16), overlap=0.25, multiple=4)[0]
    best, table = tune_threshold([(p[:3], p[3:], p[:3] >= 0.5)], decision=config.inference.threshold)
    assert table[best] == max(table.values())
    assert best == min((t for t in table if table[t] == table[best]), key=lambda t: abs(t - 0.5))


def test_the_examples_run() -> None:
    result = doctest.testmod(two_stage, extraglobs={"torch": torch, "combine": combine})
    assert result.attempted > 0
    assert result.failed == 0

"""Samples of one case: what they are of, that they repeat, and that they leave the engine as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConfigError, InputError
from rarevoxel.inference import Engine
from rarevoxel.inference.ensemble import DRAWS, GAINS, METHODS, acted, own_images, samples, snapshots, spread
from rarevoxel.inference.features import watching
from rarevoxel.inference.hooks import deep_layers, hooked
from rarevoxel.inference.uncertainty import score_case
from rarevoxel.inference.windows import predict_probabilities
from rarevoxel.labels import REGIONS
from rarevoxel.learning.pool import CaseScore
from rarevoxel.networks import SecondStage, TwoStage, build_network, save_weights

Saver = Callable[..., Path]


@pytest.fixture
def engine(config: AppConfig, tiny_weights: Path) -> Engine:
    return Engine(config, [tiny_weights], device="cpu")


def drawn(engine: Engine, folder: Path, method: str, seed: int = 0) -> torch.Tensor:
    """All samples of a method, `(S, 3, h, w, d)`."""
    prepared = engine.prepare(folder)
    own = own_images(engine, prepared)
    return torch.stack(list(samples(engine, prepared, own, method=method, seed=seed)))


@pytest.mark.parametrize("mirror", [(), (0,), (0, 1)])
def test_the_proposal_is_what_the_engine_answers(engine: Engine, case_folder: Path, mirror: tuple[int, ...]) -> None:
    engine.config = replace(engine.config, inference=replace(engine.config.inference, mirror=mirror))
    prepared = engine.prepare(case_folder)
    own = own_images(engine, prepared)
    assert len(own) == 2 ** len(mirror)
    found = spread(engine, prepared, own, method="none")
    expected = engine.run(prepared.serving, prepared.data)
    np.testing.assert_allclose(found.proposed, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.mean, found.proposed)
    assert found.count == 1
    across = 0 in mirror
    assert drawn(engine, case_folder, "tta").shape[0] == len(own) + (not across) + len(GAINS)


def test_samples_of_images_are_those_that_were_meant(engine: Engine, case_folder: Path) -> None:
    found = drawn(engine, case_folder, "tta")
    prepared = engine.prepare(case_folder)
    image = prepared.data.as_tensor()

    def predicted(image: torch.Tensor, flip: bool = False) -> torch.Tensor:
        settings = {"window": (48, 48, 48), "overlap": 0.25, "multiple": 4}
        seen = predict_probabilities(prepared.serving.network, (image.flip(1) if flip else image)[None], **settings)[0]
        return seen.flip(1) if flip else seen

    torch.testing.assert_close(found[0], predicted(image), atol=2e-3, rtol=0)
    torch.testing.assert_close(found[1], predicted(image, True), atol=2e-3, rtol=0)
    gains = torch.tensor([0.9, 0.9, 0.9, 0.9]).view(4, 1, 1, 1)
    torch.testing.assert_close(found[3], predicted(image * gains, True), atol=2e-3, rtol=0)
    assert len(torch.unique(found.flatten(1), dim=0)) == len(found), "no two are the same"


@pytest.mark.parametrize("method", METHODS)
def test_samples_repeat_and_leave_no_trace(engine: Engine, case_folder: Path, method: str) -> None:
    before = engine.predict(case_folder).labels
    first = drawn(engine, case_folder, method)
    assert first.shape[1] == len(REGIONS)
    assert 0 <= first.min() <= first.max() <= 1
    torch.testing.assert_close(drawn(engine, case_folder, method), first, atol=0, rtol=0)
    np.testing.assert_array_equal(engine.predict(case_folder).labels, before)
    assert not [m for m in engine.prepare(case_folder).serving.network.modules() if m._forward_hooks]


def test_dropout_draws_by_its_seed_and_keeps_one_network_for_all_windows(engine: Engine, case_folder: Path) -> None:
    first, other = (drawn(engine, case_folder, "dropout", seed) for seed in (0, 1))
    assert len(first) == DRAWS
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    seen: list[torch.Tensor] = []
    layers = deep_layers(engine.prepare(case_folder).serving.network)
    assert len(layers) == 3
    engine.config = replace(engine.config, inference=replace(engine.config.inference, window=(24, 24, 24)))
    with hooked({layers[0]: lambda output: seen.append((output.abs().sum((0, 2, 3, 4)) == 0).cpu())}):
        drawn(engine, case_folder, "dropout")
    windows = len(seen) // (1 + DRAWS)
    assert windows > 1
    for draw in range(1, 1 + DRAWS):
        gone = torch.stack(seen[draw * windows : (draw + 1) * windows])
        assert (gone == gone[0]).all()


def test_a_hook_is_for_its_own_thread(engine: Engine, case_folder: Path) -> None:
    prepared = engine.prepare(case_folder)
    expected = engine.run(prepared.serving, prepared.data)
    other: list[torch.Tensor] = []
    with hooked({layer: lambda output: output * 0 for layer in deep_layers(prepared.serving.network)}):
        thread = threading.Thread(target=lambda: other.append(engine.run(prepared.serving, prepared.data)))
        thread.start()
        thread.join()
        assert not torch.equal(engine.run(prepared.serving, prepared.data), expected)
    torch.testing.assert_close(other[0], expected, atol=0, rtol=0)


def test_snapshots_are_the_other_weights_of_the_same_grid(
    config: AppConfig, save_tiny: Saver, case_folder: Path, tmp_path: Path
) -> None:
    published, starter = save_tiny(tmp_path / "model" / "calf.pt", 1), save_tiny(tmp_path / "starter.pt", 2)
    coarse = replace(config.preprocessing, spacing=(5.0, 5.0, 5.0))
    save_weights(tmp_path / "coarse.pt", build_network(config.network), config.network, coarse, {})
    engine = Engine(config, [published, starter], device="cpu")
    found = drawn(engine, case_folder, "snapshots")
    assert len(found) == 2
    alone = Engine(config, [starter], device="cpu")
    torch.testing.assert_close(found[1], drawn(alone, case_folder, "none")[0])
    serving = engine.prepare(case_folder).serving
    assert [one.version for one in snapshots(engine, serving)] == ["starter"]
    for path in (tmp_path / "coarse.pt", tmp_path / "torn.pt"):
        if path.stem == "torn":
            path.write_bytes(b"torn")
        other = Engine(config, [published, path], device="cpu")
        assert len(drawn(other, case_folder, "snapshots")) == 1


def test_a_second_stage_acts_on_every_sample(config: AppConfig, case_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    regions, binary = build_network(config.network), build_network(config.network, out_channels=1)
    stage = SecondStage(binary, config.network, TwoStage(0.5, "hard"))
    path = tmp_path / "two.pt"
    save_weights(path, regions, config.network, config.preprocessing, {}, second_stage=stage)
    engine = Engine(config, [path], device="cpu")
    prepared = engine.prepare(case_folder)
    own = own_images(engine, prepared)
    assert own[0].shape[0] == len(REGIONS) + 1
    found = acted(prepared.serving, own[0])
    assert (found[:, own[0][3] <= 0.5] == 0).all()
    assert drawn(engine, case_folder, "dropout").shape[1] == len(REGIONS)


def test_features_are_of_the_brain_and_of_the_weights(
    config: AppConfig, engine: Engine, save_tiny: Saver, case_folder: Path, tmp_path: Path
) -> None:
    def features(engine: Engine, padded: int = 0) -> tuple[float, ...]:
        prepared = engine.prepare(case_folder)
        image = torch.nn.functional.pad(prepared.data.as_tensor(), (0, padded))
        with watching(prepared.serving.network) as seen:
            engine.run(prepared.serving, image)
        return seen.vector()

    found = features(engine)
    assert len(found) == config.network.filters[-1]
    assert found == features(engine)
    assert found != features(Engine(config, [save_tiny(tmp_path / "other.pt", 5)], device="cpu"))
    with watching(torch.nn.Identity()) as seen:
        pass
    assert seen.vector() == ()


def test_features_by_hand(config: AppConfig) -> None:
    torch.manual_seed(0)
    network = build_network(config.network).eval()
    image = torch.zeros(1, 4, 16, 8, 8)
    image[..., :8, :, :] = 1.0
    with watching(network) as seen, torch.inference_mode():
        network(image)
        deepest: list[torch.Tensor] = []
        network.bottleneck.register_forward_hook(lambda *args: deepest.append(args[2]))
        network(image)
    expected = deepest[0][0, :, :2].mean((1, 2, 3))
    np.testing.assert_allclose(seen.vector(), expected.numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_score_of_a_case(engine: Engine, case_folder: Path, method: str) -> None:
    score = score_case(engine, "one", case_folder, method=method, seed=3, stamp="abc")
    assert (score.case, score.image, score.method, score.error) == ("one", "abc", method, "")
    assert score.weights == engine.model()["sha256"]
    for table in (score.entropy, score.mutual_information, score.missed_ml, score.confidence, score.regions_ml):
        assert list(table) == list(REGIONS)
    assert all(0 <= score.mutual_information[name] <= score.entropy[name] <= 1 for name in REGIONS)
    assert [c.expected for c in score.candidates] == sorted((c.expected for c in score.candidates), reverse=True)
    assert len(score.features) == 8
    assert CaseScore.from_dict(score.to_dict()) == score
    if method in ("none", "snapshots"):
        assert set(score.mutual_information.values()) == {0.0}
    answer = engine.predict(case_folder)
    assert score.regions_ml == pytest.approx(answer.regions_ml, rel=1e-3)
    assert score.confidence == pytest.approx(answer.confidence, abs=0.02)


def test_what_cannot_be_asked(engine: Engine, case_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method \('magic'\) must be one of tta, dropout, snapshots, none"):
        score_case(engine, "one", case_folder, method="magic")
    with pytest.raises(InputError, match="missing"):
        score_case(engine, "one", tmp_path / "nowhere.nii.gz")

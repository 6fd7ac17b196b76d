"""Weight files: what was saved comes back, and what is no weight file is refused without being run."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rarevoxel.config import NetworkConfig, Preprocessing
from rarevoxel.errors import ModelError
from rarevoxel.networks import (
    LastChannelsNorm,
    SecondStage,
    TwoStage,
    TwoStageNetwork,
    binary_from_regions,
    build_network,
    fast_dtype,
    first_stage_of,
    load_weights,
    save_weights,
    use_norm,
)

SHAPE = NetworkConfig(filters=(2, 4, 4))
PREPROCESSING = Preprocessing(spacing=(1.0, 2.0, 3.0), margin_mm=7.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    network = build_network(SHAPE)
    path = tmp_path / "models" / "calf.pt"
    save_weights(path, network, SHAPE, PREPROCESSING, {"name": "calf", "epoch": 3})
    return path, network


def rewritten(path: Path, **changes: object) -> Path:
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)
    return path


def test_regions_come_out_at_the_size_of_the_input() -> None:
    assert build_network(SHAPE)(torch.zeros(2, 4, 16, 24, 8)).shape == (2, 3, 16, 24, 8)
    assert build_network(SHAPE, in_channels=1, out_channels=2)(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_what_was_saved_comes_back(saved: tuple[Path, torch.nn.Module]) -> None:
    path, network = saved
    loaded, shape, preprocessing, info = load_weights(path)
    assert (shape, preprocessing, info) == (SHAPE, PREPROCESSING, {"name": "calf", "epoch": 3})
    assert not loaded.training
    image = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network.eval()(image), rtol=0, atol=0)
    assert [p.name for p in path.parent.iterdir()] == ["calf.pt"]


def test_saving_fails_without_touching_the_old_file(saved: tuple[Path, torch.nn.Module], monkeypatch) -> None:
    path, network = saved
    before = path.read_bytes()

    def torn(content: object, stream: io.BufferedWriter) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="No space left"):
        save_weights(path, network, SHAPE, PREPROCESSING, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["calf.pt"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"calf\.pt: no trained weights"):
        load_weights(tmp_path / "calf.pt")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_torn_file(saved: tuple[Path, torch.nn.Module], keep: float) -> None:
    path, _ = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(ModelError, match=r"calf\.pt: not a readable weight file"):
        load_weights(path)


class Harmful:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("as_pickle", [True, False])
def test_a_foreign_pickle_is_refused_and_not_run(tmp_path: Path, as_pickle: bool) -> None:
    path, marker = tmp_path / "calf.pt", tmp_path / "was-run"
    if as_pickle:
        path.write_bytes(pickle.dumps({"model": Harmful(marker)}))
    else:
        torch.save({"format": 1, "model": Harmful(marker)}, path)
    with pytest.raises(ModelError, match=r"calf\.pt: not a readable weight file \(UnpicklingError\)"):
        load_weights(path)
    assert not marker.exists()
    # The file is harmful indeed, so the test would notice.
    pickle.loads(path.read_bytes()) if as_pickle else torch.load(path, weights_only=False)
    assert marker.exists()


def test_files_of_other_programs_and_formats(saved: tuple[Path, torch.nn.Module]) -> None:
    path, network = saved
    rewritten(path, format=2)
    with pytest.raises(ModelError, match="not a rarevoxel weight file of format 1"):
        load_weights(path)
    torch.save(network.state_dict(), path)
    with pytest.raises(ModelError, match="not a rarevoxel weight file of format 1"):
        load_weights(path)


def test_weights_of_another_network(saved: tuple[Path, torch.nn.Module]) -> None:
    path, _ = saved
    rewritten(path, network={"filters": [2, 8, 4]})
    with pytest.raises(ModelError, match="weights do not fit their network"):
        load_weights(path)
    rewritten(path, network={"filters": [2]})
    with pytest.raises(ModelError, match=r"weights do not fit their network: .*needs >= 3 positive levels"):
        load_weights(path)


def test_the_fast_type_is_one_the_device_can_use() -> None:
    assert fast_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)


# A second, binary network in the same file

BINARY = NetworkConfig(filters=(3, 4, 6))


@pytest.fixture
def stage() -> SecondStage:
    torch.manual_seed(7)
    return SecondStage(build_network(BINARY, out_channels=1), BINARY, TwoStage(0.35, "soft"))


def outputs(network: torch.nn.Module) -> torch.Tensor:
    image = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network.eval()(image)


def test_two_networks_as_one(saved: tuple[Path, torch.nn.Module], stage: SecondStage) -> None:
    _, network = saved
    two = TwoStageNetwork(network, stage)
    found = outputs(two)
    assert found.shape == (1, 4, 8, 8, 8)
    torch.testing.assert_close(found[:, :3], outputs(network), rtol=0, atol=0)
    torch.testing.assert_close(found[:, 3:], outputs(stage.network), rtol=0, atol=0)
    assert two.second == stage
    assert first_stage_of(two) is network
    assert first_stage_of(network) is network


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_a_second_stage_comes_back(saved: tuple[Path, torch.nn.Module], stage: SecondStage, form: str) -> None:
    path, network = saved
    settings = TwoStage(0.35, form)
    save_weights(path, network, SHAPE, PREPROCESSING, {"name": "two"}, second_stage=replace(stage, settings=settings))
    loaded, shape, preprocessing, info = load_weights(path)
    assert isinstance(loaded, TwoStageNetwork)
    assert not loaded.training
    assert (shape, preprocessing, info) == (SHAPE, PREPROCESSING, {"name": "two"})
    assert (loaded.foreground_config, loaded.settings) == (BINARY, settings)
    torch.testing.assert_close(
        outputs(loaded), torch.cat([outputs(network), outputs(stage.network)], 1), rtol=0, atol=0
    )
    before = path.read_bytes()
    save_weights(path, loaded, shape, preprocessing, info)
    again = load_weights(path)[0]
    assert isinstance(again, TwoStageNetwork)
    assert again.settings == settings
    torch.testing.assert_close(outputs(again), outputs(loaded), rtol=0, atol=0)
    assert path.read_bytes() == before
    save_weights(path, loaded, shape, preprocessing, info, second_stage=replace(stage, settings=TwoStage(0.9)))
    assert load_weights(path)[0].settings == TwoStage(0.9)


def test_half_precision_halves_both_networks(saved: tuple[Path, torch.nn.Module], stage: SecondStage) -> None:
    path, network = saved
    save_weights(path, network, SHAPE, PREPROCESSING, {}, half=True, second_stage=stage)
    content = torch.load(path, weights_only=True)
    stored = [*content["model"].values(), *content["second_stage"]["model"].values()]
    assert {tensor.dtype for tensor in stored} == {torch.float16}
    loaded = load_weights(path)[0]
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    expected = torch.cat([outputs(network), outputs(stage.network)], 1)
    torch.testing.assert_close(outputs(loaded), expected, rtol=0.02, atol=0.02)


def test_only_files_with_a_second_stage_are_of_the_new_format(
    saved: tuple[Path, torch.nn.Module], stage: SecondStage
) -> None:
    path, network = saved
    content = torch.load(path, weights_only=True)
    assert set(content) == {"format", "model", "network", "preprocessing", "info"}
    assert content["format"] == 1
    save_weights(path, network, SHAPE, PREPROCESSING, {}, second_stage=stage)
    content = torch.load(path, weights_only=True)
    assert content["format"] == 2, "a release that knows no second stage must not serve the first alone"
    assert set(content["second_stage"]) == {"model", "network", "threshold", "form"}
    rewritten(path, format=1)
    with pytest.raises(ModelError, match="not a rarevoxel weight file of format 2"):
        load_weights(path)


def test_the_shipped_starter_has_one_stage() -> None:
    starter = Path(__file__).parents[1] / "apps" / "brain_tumor" / "starter" / "starter.pt"
    assert not isinstance(load_weights(starter)[0], TwoStageNetwork)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network": {"filters": [3, 4, 8]}}, "size mismatch"),
        ({"network": {"filters": [3]}}, "needs >= 3 positive levels"),
        ({"model": {}}, "Missing key"),
        ({"threshold": 1.0}, r"threshold \(1\.0\) must satisfy 0 < threshold < 1"),
        ({"threshold": "half"}, "threshold: found 'half', expected a number"),
        ({"form": "medium"}, r"form \('medium'\) must be one of hard, soft"),
    ],
)
def test_a_second_stage_that_does_not_fit(
    saved: tuple[Path, torch.nn.Module], stage: SecondStage, change: dict[str, object], match: str
) -> None:
    path, network = saved
    save_weights(path, network, SHAPE, PREPROCESSING, {}, second_stage=stage)
    entry = torch.load(path, weights_only=True)["second_stage"]
    rewritten(path, second_stage={**entry, **change})
    with pytest.raises(ModelError, match=rf"(?s)calf\.pt: weights do not fit their network: .*{match}"):
        load_weights(path)


@pytest.mark.parametrize("entry", [None, "both", {}, []])
def test_a_second_stage_that_is_none(saved: tuple[Path, torch.nn.Module], stage: SecondStage, entry: object) -> None:
    path, network = saved
    save_weights(path, network, SHAPE, PREPROCESSING, {}, second_stage=stage)
    rewritten(path, second_stage=entry)
    with pytest.raises(ModelError, match=r"calf\.pt: weights do not fit their network"):
        load_weights(path)


@pytest.mark.parametrize("keep", [0.4, 0.7, 0.99])
def test_a_torn_file_of_two_stages(saved: tuple[Path, torch.nn.Module], stage: SecondStage, keep: float) -> None:
    path, network = saved
    save_weights(path, network, SHAPE, PREPROCESSING, {}, second_stage=stage)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ModelError, match=r"calf\.pt: not a readable weight file"):
        load_weights(path)


def test_a_binary_network_starts_as_the_whole_tumour_s_channel(
    saved: tuple[Path, torch.nn.Module], stage: SecondStage
) -> None:
    _, network = saved
    before = outputs(network)
    for source in (network, TwoStageNetwork(network, stage)):
        binary = binary_from_regions(source, SHAPE)
        assert binary.training
        torch.testing.assert_close(outputs(binary), before[:, :1], rtol=0, atol=1e-6)
    with torch.no_grad():
        for parameter in binary.parameters():
            parameter.zero_()
    torch.testing.assert_close(outputs(network), before, rtol=0, atol=0)


def test_a_binary_network_of_other_inputs() -> None:
    network = build_network(SHAPE, in_channels=2)
    assert binary_from_regions(network, SHAPE)(torch.zeros(1, 2, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


def test_no_binary_network_from_another_one(saved: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(ModelError, match=r"(?s)no binary network can start from this ShuffledUNet: .*size mismatch"):
        binary_from_regions(saved[1], BINARY)
    with pytest.raises(ModelError, match="no binary network can start from this Linear: 'output_block"):
        binary_from_regions(torch.nn.Linear(1, 1), SHAPE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
def test_normalisation_in_the_layout_of_convolutions_is_instance_normalisation(dtype: torch.dtype, batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(6, generator=generator)[None, :, None, None, None]
    image = (torch.randn(batch, 6, 8, 10, 12, generator=generator) * spread + 5).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    own, plain = LastChannelsNorm(6, affine=True), torch.nn.InstanceNorm3d(6, affine=True).double()
    with torch.no_grad():
        own.weight.copy_(torch.randn(6, generator=generator))
        own.bias.copy_(torch.randn(6, generator=generator))
    plain.load_state_dict(own.state_dict())
    exact = image.detach().double().requires_grad_()
    found, expected = own(image), plain(exact)
    with torch.inference_mode():
        predicted = own(image)
    assert predicted.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(predicted.double(), expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.05)
    assert found.dtype == dtype
    tight = dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 if tight else 0.05)
    slope = torch.randn(found.shape, generator=generator).to(dtype)
    found.backward(slope)
    expected.backward(slope.double())
    scale = float(exact.grad.abs().max())
    torch.testing.assert_close(image.grad.double(), exact.grad, rtol=0, atol=(1e-5 if tight else 0.02) * scale)
    torch.testing.assert_close(own.weight.grad.double(), plain.weight.grad, rtol=1e-2, atol=0.5)


def test_networks_may_have_the_normalisation_that_monai_builds() -> None:
    network = build_network(SHAPE).eval()
    image = torch.randn(2, 4, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(image)
        use_norm(network, torch.nn.InstanceNorm3d)
        assert not any(isinstance(module, LastChannelsNorm) for module in network.modules())
        torch.testing.assert_close(network(image), before, rtol=1e-3, atol=1e-3)

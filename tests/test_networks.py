"""Weight files: what was saved comes back, and what is no weight file is refused without being run."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from rarevoxel.config import NetworkConfig, Preprocessing
from rarevoxel.errors import ModelError
from rarevoxel.networks import build_network, fast_dtype, load_weights, save_weights

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

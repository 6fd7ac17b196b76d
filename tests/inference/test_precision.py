"""Which floating-point type is taken, and that it is measured once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rarevoxel.config import AppConfig, InferenceConfig
from rarevoxel.errors import ConfigError
from rarevoxel.inference import precision as precision_module
from rarevoxel.inference.precision import FILE, VARIABLE, choose_dtype
from rarevoxel.networks import build_network


@pytest.fixture
def network(config: AppConfig, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.setattr(precision_module, "fast_dtype", lambda device: torch.bfloat16)
    monkeypatch.delenv(VARIABLE, raising=False)
    return build_network(config.network).eval()


def choose(network: torch.nn.Module, folder: Path, name: str = "tiny", **settings: Any) -> torch.dtype:
    return choose_dtype(network, name, multiple=4, channels=4, folder=folder, **settings)


def timed(monkeypatch: pytest.MonkeyPatch, fast: float, plain: float) -> list[int]:
    """Replace the measurement; returns a list that grows with every one."""
    asked: list[int] = []
    answer = {"fast": fast, "float32": plain}
    monkeypatch.setattr(precision_module, "_measure", lambda *_: asked.append(1) or answer)
    return asked


@pytest.mark.parametrize(("fast", "plain", "dtype"), [(1.0, 2.0, torch.bfloat16), (2.0, 1.0, torch.float32)])
def test_the_faster_type_is_taken_and_measured_once_for_each_network(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: float, plain: float, dtype: Any
) -> None:
    asked = timed(monkeypatch, fast, plain)
    assert [choose(network, tmp_path) for _ in range(3)] == [dtype] * 3
    assert len(asked) == 1
    choose(network, tmp_path, "another")
    choose(network, tmp_path, "another")
    assert len(asked) == 2
    assert all(torch.__version__ in key for key in json.loads((tmp_path / FILE).read_text()))


def test_another_release_of_torch_is_measured_anew(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, 1.0, 2.0)
    choose(network, tmp_path)
    monkeypatch.setattr(torch, "__version__", "99.0")
    choose(network, tmp_path)
    assert len(asked) == 2


def test_a_real_measurement_says_how_long_both_take(network: torch.nn.Module, tmp_path: Path) -> None:
    assert choose(network, tmp_path) in (torch.bfloat16, torch.float32)
    (entry,) = json.loads((tmp_path / FILE).read_text()).values()
    assert 0 < entry["fast"] < 60
    assert 0 < entry["float32"] < 60


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"KEY": 3}', '{"KEY": {"fast": -1.0, "float32": 2.0}}', "\x00"])
def test_a_torn_file_is_measured_again_and_mended(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    asked = timed(monkeypatch, 1.0, 2.0)
    choose(network, tmp_path)
    (key,) = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(content.replace("KEY", json.dumps(key)[1:-1]))
    assert choose(network, tmp_path) == choose(network, tmp_path) == torch.bfloat16
    assert len(asked) == 2


def test_a_folder_that_cannot_be_written_costs_a_measurement_only(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 1.0, 2.0)
    (tmp_path / "file").write_text("no folder")
    assert choose(network, tmp_path / "file") == torch.bfloat16


def test_nothing_is_measured_where_there_is_nothing_to_choose(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, 1.0, 2.0)
    assert choose(network, tmp_path, wanted="float32") == torch.float32
    assert choose(network, tmp_path, wanted="bfloat16") == torch.bfloat16
    monkeypatch.setenv(VARIABLE, "float32")
    assert choose(network, tmp_path, wanted="bfloat16") == torch.float32
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(precision_module, "fast_dtype", lambda device: torch.float32)
    assert choose(network, tmp_path) == torch.float32
    assert asked == []


def test_an_unknown_type_is_refused(network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"precision \('half'\) must be one of \('auto', 'bfloat16', 'float32'\)"):
        InferenceConfig(precision="half")
    monkeypatch.setenv(VARIABLE, "half")
    with pytest.raises(ConfigError, match=r"RAREVOXEL_PRECISION \('half'\) must be one of"):
        choose(network, tmp_path)

"""What several test folders share: a few tiny phantom cases, a tiny configuration, tiny weights, a studies folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from rarevoxel.cases import SEQUENCES, discover
from rarevoxel.config import AppConfig, build
from rarevoxel.networks import build_network, fast_dtype, save_weights
from rarevoxel.phantom import Phantom, PhantomSpec, make_phantom, write_phantoms
from rarevoxel.studies import write_studies

torch.set_num_threads(1)

SPEC = PhantomSpec(size=(40, 48, 40), spacing=(4.0, 4.0, 4.0), severity="mild")

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "description": "a tiny app for tests",
    "models": {
        "calf": {"loss": "auto", "description": "CALF"},
        "dice_focal": {"loss": "dice_focal", "description": "Dice and focal"},
    },
    "preprocessing": {"spacing": [4.0, 4.0, 4.0]},
    "network": {"filters": [4, 4, 8]},
    "training": {
        "max_epochs": 2,
        "patches_per_case": 2,
        "batch_size": 2,
        "patch_size": [24, 24, 24],
        "learning_rate": 0.01,
        "val_interval": 1,
    },
    "inference": {"window": [48, 48, 48]},
    "active": {"scoring": False},  # Of the servers that tests start; a test of scoring turns it on.
}

Writer = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests cache, child processes among them, out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAREVOXEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        # No test depends on how fast the machine was in which precision.
        patch.setenv("RAREVOXEL_PRECISION", str(fast_dtype(torch.device("cpu"))).removeprefix("torch."))
        yield


@pytest.fixture(scope="session")
def config() -> AppConfig:
    return build(AppConfig, CONFIG, "tests")


@pytest.fixture(scope="session")
def app_toml() -> str:
    """The same configuration as the text of an `app.toml`."""
    tables = {key: value for key, value in CONFIG.items() if isinstance(value, Mapping) and key != "models"}
    tables |= {f"models.{name}": entry for name, entry in CONFIG["models"].items()}
    lines = [f'{key} = "{value}"' for key, value in CONFIG.items() if isinstance(value, str)]
    for name, entries in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(3, SPEC)


@pytest.fixture(scope="session")
def write_case() -> Writer:
    """Return a function that writes images `(4, H, W, D)`, and labels where given, as a folder of NIfTI files."""

    def write(folder: Path, images: Any, affine: Any, labels: Any = None, suffix: str = ".nii.gz") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in zip(SEQUENCES, images, strict=True):
            nib.save(nib.Nifti1Image(np.asarray(image), affine), folder / f"{name}{suffix}")
        if labels is not None:
            nib.save(nib.Nifti1Image(np.asarray(labels, dtype=np.uint8), affine), folder / f"seg{suffix}")
        return folder

    return write


@pytest.fixture
def case_folder(tmp_path: Path, phantom: Phantom, write_case: Writer) -> Path:
    """One case on disk: four sequences and `seg.nii.gz`."""
    return write_case(tmp_path / "case", phantom.images, phantom.affine, phantom.labels)


@pytest.fixture(scope="session")
def phantom_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six case folders, four of them labelled; read only."""
    out = tmp_path_factory.mktemp("phantoms")
    write_phantoms(out, 6, seed=1, spec=SPEC, labelled=4)
    return out


@pytest.fixture(scope="session")
def studies_template(tmp_path_factory: pytest.TempPathFactory, phantom_folders: Path) -> Path:
    out = tmp_path_factory.mktemp("template") / "studies"
    report = write_studies(discover(phantom_folders), out, labels=True, copy=True)
    assert len(report.prepared) == 6
    assert len(report.labelled) == 4
    return out


@pytest.fixture
def studies(tmp_path: Path, studies_template: Path) -> Path:
    """A studies folder of six cases, four of them labelled, that a test may change."""
    return Path(shutil.copytree(studies_template, tmp_path / "studies", symlinks=True))


@pytest.fixture(scope="session")
def save_tiny(config: AppConfig) -> Callable[..., Path]:
    """Return a function that writes a weight file of random weights."""

    def save(path: Path, seed: int = 0, **info: Any) -> Path:
        torch.manual_seed(seed)
        save_weights(path, build_network(config.network), config.network, config.preprocessing, {"seed": seed, **info})
        return path

    return save


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., Path]) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.pt")


@pytest.fixture(scope="session")
def main_py() -> Path:
    """The app's own `main.py`."""
    return Path(__file__).parents[1] / "apps" / "brain_tumor" / "main.py"


@pytest.fixture
def app_folder(tmp_path: Path, app_toml: str, tiny_weights: Path, main_py: Path) -> Path:
    """An app folder like `apps/brain_tumor` with the tiny configuration and weights."""
    folder = tmp_path / "app"
    (folder / "starter").mkdir(parents=True)
    (folder / "model").mkdir()
    shutil.copyfile(main_py, folder / "main.py")
    shutil.copyfile(tiny_weights, folder / "starter" / "starter.pt")
    (folder / "app.toml").write_text(app_toml, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real scans: the folder RAREVOXEL_DATA names, else `shared/data` beside the checkout; skips without them."""
    named = os.environ.get("RAREVOXEL_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set RAREVOXEL_DATA to a folder that has some")
    return folder

"""Configuration files: read whole, and refused by name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from rarevoxel.config import AppConfig, NetworkConfig, PowerConfig, Preprocessing, build, load_config
from rarevoxel.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "app.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "")) == AppConfig()


def test_entries_arrive_with_their_types(tmp_path: Path) -> None:
    text = """
    name = "site"
    [preprocessing]
    spacing = [1, 1, 3]
    [network]
    filters = [8, 16, 32]
    [training]
    learning_rate = 1
    [models.calf]
    loss = "auto"
    description = "by size"
    """
    config = load_config(written(tmp_path, text))
    assert config.name == "site"
    assert config.preprocessing.spacing == (1.0, 1.0, 3.0)
    assert all(isinstance(s, float) for s in config.preprocessing.spacing)
    assert config.network.filters == (8, 16, 32)
    assert isinstance(config.training.learning_rate, float)
    assert config.models["calf"].loss == "auto"
    assert config.label_values == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("colour = 1", r"app\.toml: unknown entry \['colour'\], expected some of \['name'"),
        ("[training]\nepochs = 3", r"app\.toml: training: unknown entry \['epochs'\]"),
        ("[training]\nmax_epochs = 'x'", r"training: max_epochs: found 'x', expected a whole number"),
        ("[training]\nmax_epochs = true", r"max_epochs: found True, expected a whole number"),
        ("[training]\nmax_epochs = 0", r"app\.toml: training: max_epochs \(0\) must be >= 1"),
        ("[training]\nholdout = 1.0", r"holdout \(1.0\) must lie between 0 and 1"),
        ("[training]\nlearning_rate = '1e-3'", r"learning_rate: found '1e-3', expected a number"),
        ("[training]\npatch_size = [64, 64]", r"patch_size \(\(64, 64\)\)"),
        ("training = 3", r"training: found 3, expected a table"),
        ("[network]\nfilters = 16", r"filters: found 16, expected a list"),
        ("[network]\nfilters = [16]", r"filters \(\(16,\)\) needs >= 3 positive levels"),
        ("[preprocessing]\nspacing = [1, 0, 1]", r"spacing \(\(1.0, 0.0, 1.0\)\) must be 3 values > 0 mm"),
        ("[preprocessing]\npercentiles = [99, 1]", r"must satisfy 0 <= low < high <= 100"),
        ("[preprocessing]\norientation = 'RRS'", r"orientation \('RRS'\) must name three axes"),
        ("[inference]\noverlap = 1", r"overlap \(1.0\) must lie between 0 and 0.9"),
        ("[models.calf]\nloss = 'auto'", r"models.calf: .*description"),
        ("labels = ['edema', 'necrosis']", r"labels \(\('edema', 'necrosis'\)\) must be \('necrosis', 'edema'\)"),
        ("regions = ['ET']", r"regions \(\('ET',\)\) must be \('WT', 'TC', 'ET'\)"),
        ("name = ", r"app\.toml: not valid TOML"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_config(written(tmp_path, text))


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "app.toml")
    (tmp_path / "app.toml").write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "app.toml")


def test_build_names_where_it_looked() -> None:
    with pytest.raises(ConfigError, match=r"weights\.pt: filters: found 'x', expected a list"):
        build(NetworkConfig, {"filters": "x"}, "weights.pt")
    with pytest.raises(ConfigError, match=r"weights\.pt: filters: found 1.5, expected a whole number"):
        build(NetworkConfig, {"filters": [8, 1.5]}, "weights.pt")


def test_patches_must_suit_the_network(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text("[network]\nfilters = [4, 4, 8]\n[training]\npatch_size = [16, 18, 16]\n")
    with pytest.raises(ConfigError, match=r"patch_size \(\(16, 18, 16\)\) must be multiples of 4"):
        load_config(path)
    path.write_text("[network]\nfilters = [4, 4, 8]\nshuffle = 2\n[training]\npatch_size = [16, 20, 16]\n")
    with pytest.raises(ConfigError, match=r"patch_size \(\(16, 20, 16\)\) must be multiples of 8"):
        load_config(path)


POWER = (PowerConfig(), PowerConfig("sqrt"), PowerConfig("log", shift=0.05), PowerConfig("yeo_johnson", -2, scale=4))


def test_power_functions_come_back_from_a_weight_file_and_old_files_have_none() -> None:
    stored = asdict(Preprocessing(power=POWER))
    assert build(Preprocessing, stored, "weights.pt") == Preprocessing(power=POWER)
    del stored["power"]
    assert build(Preprocessing, stored, "weights.pt").power == ()


def test_power_functions_from_toml(tmp_path: Path) -> None:
    tables = "".join(
        f"[[preprocessing.power]]\nkind = '{kind}'\nshift = 1\n" for kind in ("log", "sqrt", "none", "box_cox")
    )
    power = load_config(written(tmp_path, tables)).preprocessing.power
    assert [p.kind for p in power] == ["log", "sqrt", "none", "box_cox"]
    assert all(isinstance(p.shift, float) for p in power)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ("kind = 'cube'", r"power: power kind \('cube'\) must be one of \('none', 'sqrt', 'log'"),
        ("lambda = 1", r"power: unknown entry \['lambda'\], expected some of \['kind', 'lmbda'"),
        ("lmbda = 5.1", r"lmbda \(5.1\) must lie between -5 and 5"),
        ("lmbda = nan", r"lmbda \(nan\) must lie between -5 and 5"),
        ("kind = 'log'", r"shift \(0.0\) of log must lie between 0.001 and 100"),
        ("kind = 'box_cox'\nshift = -1", r"shift \(-1.0\) of box_cox must lie between 0.001 and 100"),
        ("shift = -0.1", r"shift \(-0.1\) of none must lie between 0.0 and 100"),
        ("scale = 0", r"scale \(0.0\) must lie between 0.001 and 100"),
        ("", r"power has 1 entries, expected 0 or 4: one per sequence"),
    ],
)
def test_impossible_power_functions_are_refused(tmp_path: Path, entries: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_config(written(tmp_path, f"[[preprocessing.power]]\n{entries}"))

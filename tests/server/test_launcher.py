"""Seeding a home and refusing to start where that cannot work."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rarevoxel.config import load_config
from rarevoxel.errors import ConfigError, ConflictError, InputError
from rarevoxel.server.launcher import check_port, seed_home, serve


def test_a_home_gets_the_app_and_keeps_its_models(app_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    served = seed_home(app_folder, home)
    assert served == home / "app"
    for name in ("main.py", "app.toml", "starter/starter.pt"):
        assert (served / name).read_bytes() == (app_folder / name).read_bytes()
    assert not (served / "model").exists(), "a home starts without the app folder's own models"
    (served / "model").mkdir()
    (served / "model" / "calf.pt").write_bytes(b"trained here")
    (served / "starter" / "starter.pt").write_bytes(b"old")
    (app_folder / "app.toml").write_text((app_folder / "app.toml").read_text() + "\n# newer\n")
    assert seed_home(app_folder, home) == served
    assert (served / "model" / "calf.pt").read_bytes() == b"trained here"
    assert (served / "starter" / "starter.pt").read_bytes() == (app_folder / "starter" / "starter.pt").read_bytes()
    assert (served / "app.toml").read_text().endswith("# newer\n")


def test_a_read_only_app_can_be_served(app_folder: Path, tmp_path: Path) -> None:
    for path in (app_folder / "starter" / "starter.pt", app_folder / "app.toml"):
        path.chmod(0o444)
    served = seed_home(app_folder, tmp_path / "home")
    seed_home(app_folder, tmp_path / "home")
    assert (served / "app.toml").stat().st_mode & 0o200, "what a home holds can be replaced by the next version"


def test_a_folder_without_main_py_is_no_app(app_folder: Path, tmp_path: Path) -> None:
    (app_folder / "main.py").unlink()
    with pytest.raises(ConfigError, match=r"app: no main\.py"):
        seed_home(app_folder, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_an_app_toml_that_cannot_be_used_is_told_before_anything_starts(app_folder: Path, tmp_path: Path) -> None:
    (app_folder / "app.toml").write_text("nmae = 'x'")
    with pytest.raises(ConfigError, match=r"app\.toml: unknown entry \['nmae'\]"):
        seed_home(app_folder, tmp_path / "home")
    (app_folder / "app.toml").unlink()
    with pytest.raises(ConfigError, match=r"app\.toml: no such configuration file"):
        seed_home(app_folder, tmp_path / "home")


def test_an_impossible_two_stage_form_is_told_before_anything_starts(app_folder: Path, tmp_path: Path) -> None:
    with (app_folder / "app.toml").open("a") as stream:
        stream.write('[models.two_stage]\nloss = "auto"\ndescription = "two"\ntwo_stage = "medium"\n')
    with pytest.raises(ConfigError, match=r"two_stage \('medium'\) must be hard, soft or empty"):
        seed_home(app_folder, tmp_path / "home")


def test_the_shipped_app_can_be_served(main_py: Path, tmp_path: Path) -> None:
    served = seed_home(main_py.parent, tmp_path / "home")
    config = load_config(served / "app.toml")
    assert {name: model.two_stage for name, model in config.models.items()} == {
        "calf": "",
        "dice_focal": "",
        "two_stage": "hard",
    }


def test_a_home_that_is_a_file_is_refused(app_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(InputError, match="home: cannot be used as home folder"):
        seed_home(app_folder, tmp_path / "home")


def test_a_taken_port_is_a_conflict() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=f"cannot listen on 127.0.0.1:{port}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match=f"--port {port}: not a port"):
        check_port("127.0.0.1", port)


def test_a_missing_studies_folder_is_told_first(app_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such studies folder"):
        serve(tmp_path / "nowhere", app=app_folder, home=tmp_path / "home", conf={})
    assert not (tmp_path / "home").exists()

"""`rarevoxel token`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rarevoxel.cli import main


def test_a_token_s_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path)]
    assert main(["token", "list", *home]) == 0
    assert "it is open, to this machine only" in capsys.readouterr().out
    assert main(["token", "add", "anna", "--role", "annotate", *home]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("rv_")
    assert "only time" in shown.err
    assert main(["token", "add", "ben", "--role", "admin", "--days", "1", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["token"].startswith("rv_")
    assert main(["token", "list", "--json", *home]) == 0
    listed = json.loads(capsys.readouterr().out)["tokens"]
    assert [(entry["name"], entry["role"], entry["expired"]) for entry in listed] == [
        ("anna", "annotate", False),
        ("ben", "admin", False),
    ]
    assert main(["token", "revoke", "anna", *home]) == 0
    assert main(["token", "revoke", "ben", *home]) == 0
    assert main(["token", "list", *home]) == 0
    assert "it lets nobody in" in capsys.readouterr().out
    assert main(["token", "revoke", "anna", *home]) == 1
    assert "no token of 'anna'" in capsys.readouterr().err


def test_a_role_must_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["token", "add", "anna", "--role", "king", "--home", str(tmp_path)])
    assert "annotate" in capsys.readouterr().err


def test_a_server_on_the_network_needs_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("monailabel")
    (tmp_path / "studies").mkdir()
    command = ["serve", str(tmp_path / "studies"), "--home", str(tmp_path / "home"), "--host", "0.0.0.0"]
    assert main(command) == 1
    assert "there are no tokens" in capsys.readouterr().err
    assert main([*command, "--tls-cert", "x.pem"]) == 1
    assert "expected both or none" in capsys.readouterr().err
    assert main([*command, "--queue", "-1"]) == 1
    assert not (tmp_path / "home").exists()

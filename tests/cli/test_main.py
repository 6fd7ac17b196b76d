"""The command line, as a person and as a program meets it."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rarevoxel.cli
from rarevoxel import __version__
from rarevoxel.cli import COMMANDS, build_parser, main
from rarevoxel.cli.phantom import SEVERITY_NAMES
from rarevoxel.errors import InputError
from rarevoxel.phantom import SEVERITIES, PhantomSpec, write_phantoms
from rarevoxel.volumes import read_header, read_volume, write_labels, write_volume

TINY = ["--size", "20", "24", "20", "--spacing", "7"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data set"
    write_phantoms(folder, 4, seed=5, spec=PhantomSpec((20, 24, 20), (7.0, 7.0, 7.0)), labelled=2)
    return folder


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"rarevoxel {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rarevoxel {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["stats"], ["stats", "x", "--unit", "voxel"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "usage: rarevoxel" in capsys.readouterr().err


def test_verbose_works_before_and_after_the_command() -> None:
    parser = build_parser()
    assert [parser.parse_args(a).verbose for a in (["info"], ["--verbose", "info"], ["info", "--verbose"])] == [
        False,
        True,
        True,
    ]


def test_verbose_tells_what_this_package_does_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run(args: argparse.Namespace) -> int:
        for name in ("rarevoxel.cli", "matplotlib.font_manager"):
            logging.getLogger(name).debug("said by %s", name)
        return 0

    monkeypatch.setattr("rarevoxel.cli.info.run", run)
    try:
        assert main(["--verbose", "info"]) == 0
    finally:
        logging.getLogger("rarevoxel").setLevel(logging.NOTSET)
    assert caplog.messages == ["said by rarevoxel.cli"]


@pytest.mark.parametrize(("option", "level"), [((), logging.INFO), (("--verbose",), logging.DEBUG)])
def test_training_tells_how_far_it_is_and_verbose_tells_more(
    monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], level: int
) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append(logging.getLogger("rarevoxel.training").getEffectiveLevel())
        return 0

    monkeypatch.setattr("rarevoxel.cli.train.run", run)
    try:
        assert main(["train", "studies", *option]) == 0
    finally:
        logging.getLogger("rarevoxel").setLevel(logging.NOTSET)
    assert seen == [level]


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr("rarevoxel.cli.info.run", run)


def test_errors_say_what_and_what_to_do(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(InputError("x.nii: is torn", "copy it again"), monkeypatch)
    assert main(["info"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: x.nii: is torn\nhint: copy it again\n")
    assert main(["info", "--json"]) == 1
    captured = capsys.readouterr()
    expected = {"error": {"code": "invalid_input", "message": "x.nii: is torn", "hint": "copy it again"}}
    assert json.loads(captured.out) == expected
    assert "error: x.nii: is torn" in captured.err


def test_the_system_may_refuse_too(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(PermissionError(13, "Permission denied", "/there"), monkeypatch)
    assert main(["info"]) == 1
    assert "error: /there: Permission denied\nhint: check" in capsys.readouterr().err
    failing(KeyboardInterrupt(), monkeypatch)
    assert main(["info"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_info_names_versions_and_the_app(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.toml").write_text('name = "site"\n[models.calf]\nloss = "auto"\ndescription = "by size"\n')
    monkeypatch.setattr("rarevoxel.cli.info.bundled_app", lambda: tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["info", "--json"]) == 0
    facts = printed_json(capsys)
    assert facts["version"] == __version__
    assert facts["packages"]["numpy"] == np.__version__
    assert Path(facts["home"]).name == "rarevoxel"
    assert facts["app"]["models"] == {"calf": {"loss": "auto", "description": "by size"}}
    assert facts["app"]["labels"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "model calf" in out
    assert "1 necrosis, 2 edema, 3 enhancing tumor" in out


def test_info_survives_a_broken_app(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.toml").write_text("name = 3\n")
    monkeypatch.setattr("rarevoxel.cli.info.bundled_app", lambda: tmp_path)
    assert main(["info", "--json"]) == 0
    assert "found 3, expected a string" in printed_json(capsys)["app"]["error"]["message"]
    assert main(["info"]) == 0
    assert "cannot be read" in capsys.readouterr().out


def test_a_process_of_its_own_answers_without_torch() -> None:
    code = (
        "import sys; from rarevoxel.cli import main; code = main(['info', '--json']); "
        "sys.stderr.write(repr([m for m in ('torch', 'monai', 'scipy') if m in sys.modules])); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "[]")
    assert json.loads(done.stdout)["version"] == __version__


def test_the_module_runs_and_passes_exit_codes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rarevoxel", "stats", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "nowhere: does not exist, expected a folder of cases" in done.stderr
    assert "Traceback" not in done.stderr


def test_severities_are_those_of_the_library() -> None:
    assert tuple(SEVERITIES) == SEVERITY_NAMES


@pytest.mark.parametrize("order", ["out first", "out last"])
def test_phantom_writes_what_it_says(order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    options = ["--cases", "2", "--seed", "5", "--labelled", "1", "--severity", "mild", "--prefix", "toy", *TINY]
    argv = [out, *options] if order == "out first" else [*options[:-2], "--spacing", "7", out]
    assert main(["phantom", *argv, "--json"]) == 0
    report = printed_json(capsys)
    assert report["out"] == out
    assert [(c["id"], c["seed"], c["labelled"]) for c in report["cases"]] == [
        ("toy-001", 5, True),
        ("toy-002", 6, False),
    ]
    assert all(c["regions_ml"]["WT"] >= c["regions_ml"]["TC"] >= c["regions_ml"]["ET"] for c in report["cases"])
    grid = read_header(tmp_path / "out" / "toy-002" / "t2f.nii.gz")
    assert (grid.shape, grid.spacing) == ((20, 24, 20), (7.0, 7.0, 7.0))
    assert [(tmp_path / "out" / c / "seg.nii.gz").exists() for c in ("toy-001", "toy-002")] == [True, False]


def test_phantom_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["phantom", str(tmp_path), *TINY]
    assert main(argv) == 0
    assert "phantom-001: WT" in capsys.readouterr().out
    assert main(argv) == 1
    assert "exist already" in capsys.readouterr().err
    assert main([*argv, "--force"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "96"], "required: OUT"),
        (["OUT", "--size", "20", "24"], "argument --size: found 2 values, expected 1 or 3"),
        (["OUT", "--size", "20.5"], "argument --size: found '20.5', expected one or three whole numbers"),
        (["OUT", "--spacing", "1", "x", "1"], "argument --spacing: found '1 x 1'"),
        (["OUT", "--cases", "many"], "argument --cases: invalid int value"),
    ],
)
def test_phantom_options_that_are_no_numbers(options: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", *options])
    assert message in capsys.readouterr().err


def test_phantom_sizes_that_are_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(tmp_path), "--size", "4", "--json"]) == 1
    assert printed_json(capsys)["error"]["code"] == "config"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["OUT", "--gallery", "g.html"], "take none of the options of cases: found OUT"),
        (["--gallery", "g.html", "--cases", "3"], "take none of the options of cases: found --cases"),
        (["--picture", "p.png", "--size", "20", "--force"], "found --size, --force"),
        (["--gallery", "g.pdf"], "argument --gallery: found 'g.pdf', expected a file name that ends in .html"),
        (["--picture", "p.jpg"], "argument --picture: found 'p.jpg', expected a file name that ends in .png"),
    ],
)
def test_gallery_options_that_make_no_sense(options: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", *options])
    assert message in capsys.readouterr().err


def test_gallery_and_picture_are_written_without_cases(monkeypatch, tmp_path: Path, capsys) -> None:
    import rarevoxel.report.gallery as gallery

    calls = []
    for name in ("write_gallery", "write_montage"):
        monkeypatch.setattr(gallery, name, lambda path, seed, name=name, **o: calls.append((name, seed, o)) or path)
    page, picture = tmp_path / "g.html", tmp_path / "p.png"
    assert main(["phantom", "--gallery", str(page), "--seed", "4"]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert main(["phantom", "--gallery", str(page), "--picture", str(picture), "--json"]) == 0
    assert printed_json(capsys) == {"gallery": str(page), "picture": str(picture)}
    progress = {"progress": True}
    assert calls == [
        ("write_gallery", 4, progress), ("write_gallery", 0, progress), ("write_montage", 0, progress),
    ]  # fmt: skip


def test_stats_measures_a_data_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(data)]) == 0
    out = capsys.readouterr().out
    assert "2 cases have no label map" in out
    assert "loss calf_bce_dice: too few cases: n=2 (minimum 20)" in out
    assert main(["stats", str(data), "--json", "--minimum-n", "2"]) == 0
    report = printed_json(capsys)
    assert report["cases"] == ["phantom-001", "phantom-003"]
    assert report["unlabelled"] == ["phantom-002", "phantom-004"]
    assert report["by_region"]["WT"]["n"] == 2
    assert report["loss"]["name"] == "calf"
    seg = read_volume(data / "phantom-001" / "seg.nii.gz").array
    seg3 = read_volume(data / "phantom-003" / "seg.nii.gz").array
    mean = 343 * (np.count_nonzero(seg) + np.count_nonzero(seg3)) / 2
    assert report["by_region"]["WT"]["mean"] == pytest.approx(mean)


def test_stats_shows_intensities_when_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    monkeypatch.setenv("RAREVOXEL_CACHE", str(kept))
    assert main(["stats", str(data), "--intensities", "--no-cache", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "intensities as stored" in out
    assert [line.split()[0] for line in out.splitlines() if " brain " in line] == ["t1n", "t1c", "t2w", "t2f"]
    assert not kept.exists()
    for _ in range(2):
        assert main(["stats", str(data), "--intensities", "--json"]) == 0
        report = printed_json(capsys)
        image = read_volume(data / "phantom-001" / "t1c.nii.gz").array
        assert report["case_intensities"]["phantom-001"]["t1c"]["brain"]["n"] == np.count_nonzero(image)
        assert report["intensities"]["t1c"]["brain"]["cases"] == 2
        assert report["case_sizes"]["phantom-003"]["regions"]["WT"]["voxels"] > 0
        assert len(list((kept / "statistics").iterdir())) == 4
    assert main(["stats", str(data), "--threads", "0"]) == 1
    assert "threads (0) must be >= 1" in capsys.readouterr().err


def test_stats_reads_final_labels_of_a_studies_folder(data: Path, tmp_path: Path, capsys) -> None:
    studies = tmp_path / "studies"
    assert main(["prepare", str(data), str(studies), "--labels"]) == 0
    capsys.readouterr()
    results = []
    for path in (data, studies):
        assert main(["stats", str(path), "--json", "--unit", "component"]) == 0
        results.append(printed_json(capsys))
    assert results[0] == results[1]


def test_stats_leaves_out_and_names_what_it_cannot_read(data: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "mixed"
    write_phantoms(folder, 3, seed=5, spec=PhantomSpec((20, 24, 20), (7.0, 7.0, 7.0)))
    affine = read_header(folder / "phantom-001" / "t1n.nii.gz").affine
    write_labels(folder / "phantom-001" / "seg.nii.gz", np.full((20, 24, 20), 9, dtype=np.uint8), affine)
    torn = folder / "phantom-002" / "seg.nii.gz"
    torn.write_bytes(torn.read_bytes()[:80])
    assert main(["stats", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "1 cases, one size per case" in captured.out
    assert "left out phantom-001" in captured.err
    assert "[9]" in captured.err
    assert "left out phantom-002" in captured.err
    assert main(["stats", str(folder), "--json"]) == 0
    assert [r["id"] for r in printed_json(capsys)["refused"]] == ["phantom-001", "phantom-002"]
    assert main(["stats", str(folder), "--scheme", "lesion"]) == 1
    assert "none of 3 cases has a usable label map" in capsys.readouterr().err


def test_stats_without_labels_or_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("t1n", "t1c", "t2w", "t2f"):
        write_volume(tmp_path / "a" / f"{name}.nii.gz", np.ones((4, 4, 4), dtype=np.int16), np.eye(4))
    assert main(["stats", str(tmp_path)]) == 1
    assert "hint: label a case and submit it" in capsys.readouterr().err
    assert main(["stats", str(tmp_path / "nowhere"), "--json"]) == 1
    assert printed_json(capsys)["error"]["code"] == "invalid_input"


def test_starter_passes_its_options_on(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import rarevoxel.training.starter as starter

    calls = []
    monkeypatch.setattr("rarevoxel.bundled.bundled_app", lambda: tmp_path)
    monkeypatch.setattr(starter, "train_starter", lambda *args, **options: calls.append((args, options)) or args[1])
    (tmp_path / "app.toml").write_text('name = "site"\n')
    out = tmp_path / "s.pt"
    assert main(["starter", "--steps", "7", "--seed", "3", "--workers", "0", "--out", str(out)]) == 0
    ((config, path), options) = calls[0]
    assert (config.name, path, options) == (
        "site",
        out,
        {"steps": 7, "seed": 3, "workers": 0, "start": None, "average": None, "learning_rate": starter.LEARNING_RATE},
    )
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["starter", "--out", str(out)]) == 0
    defaults = {"steps": starter.STEPS, "seed": 0, "workers": 1, "start": None, "average": None}
    assert calls[1][1] == {**defaults, "learning_rate": starter.LEARNING_RATE}
    assert main(["starter", "--out", str(out), "--learning-rate", "0.0007"]) == 0
    assert calls[2][1]["learning_rate"] == 0.0007
    with pytest.raises(SystemExit, match="2"):
        main(["starter", "--out", str(out), "--learning-rate", "0"])
    assert "--learning-rate: found 0.0, expected a number between 0 and 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["starter", "--steps", "0", "--out", str(out)])


def test_the_bundled_app_is_looked_for_in_both_places(monkeypatch, tmp_path: Path) -> None:
    import rarevoxel.bundled as bundled

    package = tmp_path / "lib" / "rarevoxel"
    monkeypatch.setattr(bundled, "__file__", str(package / "bundled.py"))
    with pytest.raises(rarevoxel.cli.RareVoxelError, match=r"no app\.toml in .*apps/brain_tumor or .*apps/brain_tumor"):
        bundled.bundled_app()
    checkout, installed = tmp_path / "apps" / "brain_tumor", package / "apps" / "brain_tumor"
    for place in (checkout, installed):
        place.mkdir(parents=True)
        (place / "app.toml").write_text("")
        assert bundled.bundled_app() == place

"""The MONAI Label app, built in this process."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monailabel.config import settings
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from rarevoxel.errors import ConfigError
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.losses import LOSS_NAMES
from rarevoxel.phantom import Phantom
from rarevoxel.server.app import RareVoxelApp
from rarevoxel.server.http import HttpError
from rarevoxel.volumes import read_label_volume, read_labels

CASE = "phantom-001"
Build = Callable[..., RareVoxelApp]


@pytest.fixture(autouse=True)
def host_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))


@pytest.fixture
def build_app(app_folder: Path, studies: Path) -> Build:
    def build(**conf: str) -> RareVoxelApp:
        return RareVoxelApp(str(app_folder), str(studies), conf)

    return build


@pytest.fixture
def app(build_app: Build) -> RareVoxelApp:
    return build_app()


@pytest.fixture
def no_new_files_in_tmp() -> Iterator[None]:
    def listed() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob("rarevoxel-*"))

    before = listed()
    yield
    assert listed() == before


def refused(function: Callable[..., Any], *args: Any, status: int, match: str, code: str = "") -> None:
    with pytest.raises(HttpError, match=match) as caught:
        function(*args)
    assert caught.value.status_code == status
    assert set(caught.value.detail) - {"findings"} == {"code", "message", "hint"}
    assert not code or caught.value.detail["code"] == code


def test_the_host_finds_the_app_in_main_py(main_py: Path) -> None:
    assert get_class_of_subclass_from_file("main", str(main_py), "MONAILabelApp") is RareVoxelApp


def test_info_is_what_slicer_expects(app: RareVoxelApp) -> None:
    info = app.info()
    assert "config" not in info, "3D Slicer takes a top-level config for a server too old for it"
    assert (info["name"], info["labels"]) == ("tiny", ["necrosis", "edema", "enhancing tumor"])
    assert list(info["models"]) == list(info["trainers"]) == list(info["scoring"]) == ["calf", "dice_focal"]
    assert list(info["strategies"]) == list(STRATEGIES)
    assert info["train_stats"] == {"calf": {}, "dice_focal": {}}
    assert info["datastore"]["total"] == 6
    for model in info["models"].values():
        assert model["labels"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
        assert (str(getattr(model["type"], "value", model["type"])), model["dimension"]) == ("segmentation", 3)
        assert model["description"]
    for name, trainer in info["trainers"].items():
        assert trainer["config"]["loss"][0] == {"calf": "auto", "dice_focal": "dice_focal"}[name]
        assert sorted(trainer["config"]["loss"]) == sorted(LOSS_NAMES)
        for value in trainer["config"].values():
            assert not isinstance(value, list) or all(isinstance(item, str) for item in value)
    assert all(strategy["description"] for strategy in info["strategies"].values())


SHIPPED = ["calf", "dice_focal", "two_stage"]


@pytest.fixture
def shipped(app_folder: Path, studies: Path, main_py: Path) -> RareVoxelApp:
    """The app that is shipped, with small weights."""
    shutil.copyfile(main_py.with_name("app.toml"), app_folder / "app.toml")
    return RareVoxelApp(str(app_folder), str(studies), {})


def test_the_shipped_app_offers_its_models(shipped: RareVoxelApp) -> None:
    info = shipped.info()
    for part in ("models", "trainers", "scoring", "train_stats"):
        assert list(info[part]) == SHIPPED
    assert "binary network" in info["models"]["two_stage"]["description"]
    assert [entry.two_stage for entry in shipped.app_config.models.values()] == ["", "", "hard"]


def test_options_are_lists_of_short_strings(shipped: RareVoxelApp) -> None:
    for trainer in shipped.info()["trainers"].values():
        options = trainer["config"]
        lists = {name: value for name, value in options.items() if isinstance(value, list)}
        assert list(lists) == ["loss", "sampler", "filter", "intensity"]
        assert all(isinstance(item, str) and 0 < len(item) <= 40 for value in lists.values() for item in value)
        assert all(len(set(value)) == len(value) > 1 for value in lists.values())
        assert [lists[name][0] for name in ("sampler", "filter", "intensity")] == ["auto", "none", "as_trained"]
        assert json.loads(json.dumps(options)) == options


def test_a_two_stage_model_serves_the_starter_until_it_is_trained(shipped: RareVoxelApp) -> None:
    result = shipped.infer({"model": "two_stage", "image": CASE})
    Path(result["file"]).unlink()
    assert result["params"]["model"]["weights"] == "starter.pt"
    assert "two_stage" not in result["params"]["model"]


def test_conf_says_what_the_gate_does_with_too_few_cases(build_app: Build) -> None:
    assert build_app().app_config.gate.too_few == "keep"
    assert build_app(too_few="publish_if_better").app_config.gate.too_few == "publish_if_better"
    with pytest.raises(ConfigError, match=r"too_few \('never'\) must be one of"):
        build_app(too_few="never")


def test_conf_says_what_networks_are_computed_in(build_app: Build) -> None:
    assert build_app().app_config.inference.precision == "auto"
    assert build_app(precision="float32").app_config.inference.precision == "float32"
    with pytest.raises(ConfigError, match=r"precision \('half'\) must be one of"):
        build_app(precision="half")


def test_models_share_what_was_read_of_a_case(app: RareVoxelApp) -> None:
    caches = {id(engine.cache) for engine in app.engines.values()}
    assert len(caches) == 1
    for model in ("calf", "dice_focal"):
        Path(app.infer({"model": model, "image": CASE})["file"]).unlink()
    assert len(app.engines["calf"].cache) == 1


def test_conf_picks_models(build_app: Build) -> None:
    info = build_app(models="calf").info()
    assert list(info["models"]) == list(info["trainers"]) == list(info["scoring"]) == ["calf"]
    assert list(build_app(models="all").info()["models"]) == ["calf", "dice_focal"]
    assert list(build_app(models=" dice_focal , calf ").info()["models"]) == ["dice_focal", "calf"]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"models": "nnunet"}, r"unknown model \['nnunet'\], expected some of \['calf', 'dice_focal'\]"),
        ({"models": "calf,nnunet"}, r"unknown model \['nnunet'\]"),
        ({"models": " "}, "unknown model"),
        ({"model": "calf"}, r"--conf \['model'\]: unknown key, expected one of models, too_few"),
    ],
)
def test_an_unknown_conf_is_refused(build_app: Build, conf: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_app(**conf)


def test_unknown_names_are_not_found(app: RareVoxelApp) -> None:
    known = r"expected one of \['calf', 'dice_focal'\]"
    refused(app.infer, {"model": "nnunet", "image": CASE}, status=404, code="not_found", match=known)
    refused(app.infer, {"image": CASE}, status=404, match=known)
    refused(app.train, {"model": "nnunet"}, status=404, match=known)
    refused(app.bundle_path, "nnunet", status=404, match=known)
    refused(app.scoring, {"method": "dice"}, status=404, match=known)
    refused(
        app.next_sample, {"strategy": "oldest"}, status=404, match=r"no strategy 'oldest', .*'first', 'random', 'rare'"
    )
    refused(app.infer, {"model": "calf", "image": "nobody"}, status=404, match="no case 'nobody' in this datastore")
    assert app.bundle_path("calf") is None


@pytest.mark.parametrize("image", ["", None, 3, ["a", "b"], {"a": 1}])
def test_an_image_must_be_a_case_id(app: RareVoxelApp, image: Any) -> None:
    refused(
        app.infer, {"model": "calf", "image": image}, status=422, code="invalid_request", match="expected a case id"
    )


def test_paths_a_client_names_are_not_read(app: RareVoxelApp, studies: Path, tmp_path: Path) -> None:
    (tmp_path / "sessions" / "one").mkdir(parents=True)
    secret = studies / "sequences" / CASE / "t1c.nii.gz"
    for image in (
        str(secret),
        f"{tmp_path}/sessions/../studies/sequences/{CASE}/t1c.nii.gz",
        f"{tempfile.gettempdir()}/{tmp_path.name}/../../{secret.relative_to('/')}",
        f"../../{secret}",
        "/etc/passwd",
        str(studies),
    ):
        refused(app.infer, {"model": "calf", "image": image}, status=404, match="no case")


def test_a_session_is_read(app: RareVoxelApp, case_folder: Path, tmp_path: Path, phantom: Phantom) -> None:
    session = tmp_path / "sessions" / "one"
    session.parent.mkdir(exist_ok=True)
    case_folder.rename(session)
    result = app.infer({"model": "calf", "image": str(session)})
    assert read_labels(result["file"]).shape == phantom.labels.shape
    Path(result["file"]).unlink()


def test_a_mask_lies_on_the_display_volume(app: RareVoxelApp, studies: Path) -> None:
    result = app.infer({"model": "calf", "image": CASE, "result_extension": ".nrrd", "result_dtype": "uint8"})
    file = Path(result["file"])
    mask = read_label_volume(file)
    assert file.suffix == ".nrrd"
    assert mask.grid.matches(read_label_volume(studies / "labels" / "final" / f"{CASE}.nii.gz").grid)
    assert set(np.unique(mask.array)) <= {0, 1, 2, 3}
    assert mask.array.any()
    file.unlink()
    params = result["params"]
    assert params["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    assert set(params["regions_ml"]) == {"WT", "TC", "ET"}
    assert params["latencies"]["total"] > 0
    assert params["model"]["weights"] == "starter.pt"
    assert "original" not in app.datastore().get_labels_by_image_id(CASE)


def test_a_case_is_its_id_whatever_lies_in_the_working_directory(
    app: RareVoxelApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / CASE).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = app.infer({"model": "calf", "image": CASE, "save_label": True})
    assert read_labels(result["file"]).any()
    Path(result["file"]).unlink()
    assert result["label"] == CASE
    assert "original" in app.datastore().get_labels_by_image_id(CASE)


@pytest.mark.parametrize("tag", ["../evil", "a/b"])
def test_a_proposal_cannot_be_saved_elsewhere(app: RareVoxelApp, studies: Path, tag: str) -> None:
    before = sorted(studies.parent.rglob("*"))
    request = {"model": "calf", "image": CASE, "save_label": True, "label_tag": tag}
    refused(app.infer, request, status=422, match="label tag .* is not allowed")
    new = [path for path in sorted(studies.parent.rglob("*")) if path not in before]
    assert [path for path in new if "proposals" not in path.relative_to(studies).parts] == []


@pytest.mark.usefixtures("no_new_files_in_tmp")
def test_an_extension_that_cannot_be_written_is_refused(app: RareVoxelApp) -> None:
    request = {"model": "calf", "image": CASE, "result_extension": "/../../x.exe"}
    refused(app.infer, request, status=422, match="cannot be written, expected one of")


@pytest.mark.usefixtures("no_new_files_in_tmp")
def test_an_unusable_case_is_told_as_such(app: RareVoxelApp, studies: Path) -> None:
    (studies / "sequences" / CASE / "t2w.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    refused(app.infer, {"model": "calf", "image": CASE}, status=422, match=r"t2w\.nii\.gz: is a git-LFS pointer")


def test_without_weights_a_model_is_not_offered(app: RareVoxelApp, app_folder: Path) -> None:
    (app_folder / "starter" / "starter.pt").unlink()
    assert app.info()["models"] == {}
    assert list(app.info()["trainers"]) == ["calf", "dice_focal"]
    refused(app.infer, {"model": "calf", "image": CASE}, status=503, code="model", match="no trained weights")


def test_torn_stats_do_not_take_info_down(app: RareVoxelApp, app_folder: Path) -> None:
    stats = app_folder / "model" / "calf" / "train_stats.json"
    stats.parent.mkdir(parents=True, exist_ok=True)
    stats.write_text('{"epoch": 3, ')
    assert "cannot be read" in app.info()["train_stats"]["calf"]["warning"]


@pytest.mark.parametrize(
    ("option", "message", "nearest"),
    [
        ({"loss": "dice_focl"}, "unknown loss 'dice_focl'", "dice_focal"),
        ({"sampler": "balance"}, "unknown sampler 'balance'", "balanced"),
        ({"filter": "outlier"}, "unknown filter 'outlier'", "outliers"),
        ({"intensity": "z_score"}, "unknown intensity 'z_score'", "zscore"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    app: RareVoxelApp, option: dict[str, str], message: str, nearest: str
) -> None:
    with pytest.raises(HttpError, match=message) as caught:
        app.train({"model": "calf", **option})
    assert caught.value.status_code == 422
    assert caught.value.detail["code"] == "invalid_request"
    assert caught.value.detail["hint"] == f"did you mean {nearest!r}?"


def test_a_filter_that_leaves_no_case_is_a_conflict(app: RareVoxelApp) -> None:
    request = {"model": "calf", "filter": ["tiny:1e9", "none"]}
    refused(app.train, request, status=409, code="conflict", match="the filter drops all")
    assert app.info()["train_stats"]["calf"]["error"]["code"] == "conflict"


def test_impossible_options_and_too_few_labels(app: RareVoxelApp) -> None:
    refused(app.train, {"model": "calf", "max_epochs": "x"}, status=422, match="max_epochs: found 'x'")
    for case in list(app.datastore().get_labeled_images()):
        app.datastore().remove_label(case, "final")
    refused(app.train, {"model": "calf"}, status=409, code="conflict", match="0 labelled cases of 0 patients")


def test_datastore_errors_are_answers(app: RareVoxelApp, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"garbage")
    store = app.datastore()
    refused(store.save_label, CASE, str(bad), "final", {}, status=422, match="label of case phantom-001")
    refused(store.save_label, "nobody", str(bad), "final", {}, status=404, match="no case 'nobody'")
    refused(store.remove_image, "nobody", status=404, match="no case 'nobody'")
    refused(store.remove_label, CASE, "original", status=404, match="no label of case")
    refused(store.add_image, "x", str(bad), {}, status=422, match=r"bad\.nii\.gz")


def test_a_value_that_is_no_label_of_the_app_is_refused(app: RareVoxelApp, studies: Path, tmp_path: Path) -> None:
    import nibabel as nib

    image = nib.load(studies / "labels" / "final" / f"{CASE}.nii.gz")
    array = np.zeros(image.shape, np.uint8)
    array[0, 0, 0] = 4
    nib.save(nib.Nifti1Image(array, image.affine), tmp_path / "up.nii.gz")
    refused(
        app.datastore().save_label, CASE, str(tmp_path / "up.nii.gz"), "final", {},
        status=422, code="invalid_label", match="label value 4",
    )  # fmt: skip


def test_next_sample_is_an_open_case_with_its_path(app: RareVoxelApp, studies: Path) -> None:
    asked = {"client_id": "tests"}
    found = app.next_sample({"strategy": "first", **asked})
    assert (found["id"], found["path"]) == ("phantom-003", str(studies / "phantom-003.nii.gz"))
    assert app.next_sample({"strategy": "random", **asked})["id"] == "phantom-006", "the other one is taken"
    assert app.next_sample(asked)["id"] == "phantom-003"


def test_scoring_writes_to_the_labels(app: RareVoxelApp) -> None:
    result = app.scoring({"method": "calf"})
    assert len(result["cases"]) == 4
    assert app.datastore().get_label_info(CASE, "final")["dice"]["calf"] == result["cases"][CASE]


def test_batch_inference_needs_no_gpu(app: RareVoxelApp) -> None:
    result = app.batch_infer({"model": "calf", "images": BatchInferImageType.IMAGES_UNLABELED, "max_workers": 1})
    assert sorted(result) == ["phantom-003", "phantom-006"]
    assert app.datastore().get_labels_by_image_id("phantom-003") == {"original": "phantom-003"}

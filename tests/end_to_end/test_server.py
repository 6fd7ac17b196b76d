"""A real server process, driven over HTTP the way 3D Slicer and other clients drive it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from monailabel.client.client import MONAILabelClient, MONAILabelClientException

from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.studies import write_studies
from rarevoxel.volumes import read_header, read_label_volume, read_labels

pytestmark = pytest.mark.server

START_S = 180
TRAIN_S = 240
MODELS = ["calf", "dice_focal", "two_stage"]
TWO_STAGE = '[models.two_stage]\nloss = "auto"\ndescription = "two networks"\ntwo_stage = "hard"\n'


@dataclass(frozen=True)
class Server:
    """A running server and what it serves."""

    url: str
    studies: Path
    app: Path

    def client(self, tmp: Path) -> MONAILabelClient:
        return MONAILabelClient(self.url, tmpdir=str(tmp), client_id="tests")

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.post(f"{self.url}{path}", timeout=120, **kwargs)

    def put_label(self, case: str, file: Path, params: str = "{}", tag: str = "final") -> requests.Response:
        with file.open("rb") as stream:
            return requests.put(
                f"{self.url}/datastore/label",
                params={"image": case, "tag": tag},
                data={"params": params},
                files={"label": (file.name, stream)},
                timeout=120,
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], log: Path, url: str, tmp: Path) -> Iterator[None]:
    """Run a server in a session of its own until the block ends, however it ends."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MONAI_LABEL_")}
    environment |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp), "HOME": str(tmp)}
    tmp.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, cwd=tmp, start_new_session=True
        )
    try:
        wait_for(url, process, log)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(f"{url}/info/", timeout=10).status_code == 200:
                return
        time.sleep(0.3)
    pytest.fail(f"no answer within {START_S} s:\n{log.read_text(errors='replace')[-3000:]}")


def make_app(folder: Path, app_toml: str, weights: Path, main_py: Path) -> Path:
    (folder / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, folder / "main.py")
    shutil.copyfile(weights, folder / "starter" / "starter.pt")
    (folder / "app.toml").write_text(app_toml, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, app_toml: str, tiny_weights: Path, main_py: Path
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("served")
    studies = Path(shutil.copytree(studies_template, root / "studies", symlinks=True))
    spoil(studies)
    app = make_app(root / "source" / "tiny", app_toml + TWO_STAGE, tiny_weights, main_py)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "rarevoxel", "serve", str(studies), "--app", str(app)]
    command += ["--home", str(root / "home"), "--port", str(port)]
    with running(command, root / "log", url, root / "tmp"):
        yield Server(url, studies, root / "home" / "tiny")
    assert not (app / "model").exists(), "the app that was given must stay as it is"


def spoil(studies: Path) -> None:
    """Add cases that cannot be used (a torn file, voxels that are no numbers) and one without a sequence."""
    for name in ("torn", "nan", "alone"):
        folder = studies / "sequences" / name
        shutil.copytree(studies / "sequences" / "phantom-003", folder)
        (studies / f"{name}.nii.gz").symlink_to(Path("sequences") / name / "t1c.nii.gz")
    torn, bad = studies / "sequences" / "torn" / "t2w.nii.gz", studies / "sequences" / "nan" / "t2f.nii.gz"
    torn.write_bytes(torn.read_bytes()[:2000])
    image = nib.load(bad)
    array = image.get_fdata().astype(np.float32)
    array[20, 20, 20:23] = np.nan
    nib.save(nib.Nifti1Image(array, image.affine), bad)
    (studies / "sequences" / "alone" / "t1n.nii.gz").unlink()


def check_error(response: requests.Response, status: int, *words: str, hint: str = "") -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) - {"findings"} == {"code", "message", "hint"}
    for word in words:
        assert word in error["message"], error
    assert hint in error["hint"], error


def finished(client: MONAILabelClient) -> dict[str, Any]:
    """Wait for a training to end and return its status."""
    deadline = time.monotonic() + TRAIN_S
    while (status := client.train_status())["status"] in {"SUBMITTED", "RUNNING"} and time.monotonic() < deadline:
        time.sleep(0.5)
    return dict(status)


def label_like(studies: Path, case: str, path: Path, values: dict[int, int], affine: Any = None) -> Path:
    """Write a label map on a case's grid with one block per value."""
    grid = read_header(studies / f"{case}.nii.gz")
    array = np.zeros(grid.shape, np.uint8)
    for index, value in values.items():
        array[10 + 4 * index : 13 + 4 * index, 20:24, 20:24] = value
    nib.save(nib.Nifti1Image(array, grid.affine if affine is None else affine), path)
    return path


def test_info(server: Server, tmp_path: Path) -> None:
    info = server.client(tmp_path).info()
    assert "config" not in info
    assert list(info["models"]) == list(info["trainers"]) == MODELS
    assert list(info["strategies"]) == list(STRATEGIES)
    assert info["models"]["calf"]["labels"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    assert info["models"]["calf"]["type"] == "segmentation"
    for trainer in info["trainers"].values():
        lists = {name: value for name, value in trainer["config"].items() if isinstance(value, list)}
        assert sorted(lists) == ["filter", "intensity", "loss", "sampler"]
        assert all(isinstance(item, str) and 0 < len(item) <= 40 for value in lists.values() for item in value)
    assert info["datastore"]["completed"] == 4
    assert not server.client(tmp_path).auth_enabled()


def test_next_sample(server: Server, tmp_path: Path) -> None:
    client = server.client(tmp_path)
    first = client.next_sample("first", {})
    assert first["id"] == "alone"
    assert Path(first["path"]) == server.studies / "alone.nii.gz"
    random = client.next_sample("random", {})
    assert random["id"] in {"alone", "nan", "torn", "phantom-003", "phantom-006"}
    served = client.datastore()["objects"][random["id"]]["image"]["info"]["strategy"]
    assert served["random"]["client_id"] == "tests"


@pytest.mark.parametrize("model", MODELS)
def test_a_mask_comes_back_on_the_display_volume_s_grid(server: Server, tmp_path: Path, model: str) -> None:
    case = "phantom-003"
    params = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    file, reply = server.client(tmp_path).infer(model, case, params)
    mask = read_label_volume(file)
    display = read_header(server.studies / f"{case}.nii.gz")
    assert mask.grid.shape == display.shape
    np.testing.assert_allclose(mask.grid.affine, display.affine, atol=1e-4)
    assert mask.array.dtype == np.uint8
    assert set(np.unique(mask.array)) <= {0, 1, 2, 3}
    assert reply["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    voxel_ml = display.voxel_volume / 1000
    assert reply["regions_ml"]["WT"] == pytest.approx(np.count_nonzero(mask.array) * voxel_ml, abs=1e-3)
    assert {"pre", "infer", "invert", "write", "total"} <= set(reply["latencies"])


def test_json_and_image_say_the_same(server: Server, tmp_path: Path) -> None:
    query = {"image": "phantom-006"}
    as_json = server.post("/infer/calf", params={**query, "output": "json"})
    as_image = server.post("/infer/calf", params={**query, "output": "image"})
    both = server.post("/infer/calf", params={**query, "output": "all"})
    assert [as_json.status_code, as_image.status_code, both.status_code] == [200, 200, 200]
    (tmp_path / "mask.nii.gz").write_bytes(as_image.content)
    mask = read_labels(tmp_path / "mask.nii.gz")
    voxel_ml = read_header(tmp_path / "mask.nii.gz").voxel_volume / 1000
    assert as_json.json()["regions_ml"]["WT"] == pytest.approx(np.count_nonzero(mask) * voxel_ml, abs=1e-3)
    assert both.headers["content-type"].startswith("multipart/form-data")
    assert b"label_names" in both.content


def test_an_upload_of_four_sequences_is_segmented(server: Server, tmp_path: Path) -> None:
    folder = server.studies / "sequences" / "phantom-003"
    parts = [nib.load(folder / f"{name}.nii.gz") for name in ("t1n", "t1c", "t2w", "t2f")]
    array = np.stack([np.asarray(part.dataobj) for part in parts], axis=3)
    path = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(array, parts[0].affine), path)
    with path.open("rb") as stream:
        response = server.post("/infer/calf", params={"output": "json"}, files={"file": (path.name, stream)})
    assert response.status_code == 200, response.text
    by_id = server.post("/infer/calf", params={"image": "phantom-003", "output": "json"}).json()
    assert response.json()["regions_ml"] == by_id["regions_ml"]


def test_a_label_is_kept_by_segment_name(server: Server, tmp_path: Path) -> None:
    case, client = "phantom-006", server.client(tmp_path)
    before = client.info()["datastore"]["completed"]
    segments = [{"name": "enhancing tumor", "idx": 1}, {"name": "necrosis", "idx": 2}, {"name": "edema", "idx": 3}]
    file = label_like(server.studies, case, tmp_path / "up.nii.gz", {0: 1, 1: 2, 2: 3})
    reply = client.save_label(case, str(file), params={"label_info": segments, "model": "calf"})
    assert reply["image"] == case
    saved = read_labels(server.studies / "labels" / "final" / f"{case}.nii.gz")
    sent = read_labels(file)
    for value, expected in ((1, 3), (2, 1), (3, 2)):
        assert (saved[sent == value] == expected).all()
    assert not saved[sent == 0].any()
    assert client.info()["datastore"]["completed"] == before + 1
    downloaded = client.download_label(case, "final")
    assert np.array_equal(read_labels(downloaded), saved)


def test_unknown_names_are_404(server: Server, tmp_path: Path) -> None:
    check_error(server.post("/infer/nnunet", params={"image": "phantom-003"}), 404, "nnunet", "dice_focal")
    check_error(server.post("/infer/calf", params={"image": "nobody"}), 404, "nobody")
    check_error(server.post("/infer/calf", params={"image": str(server.studies / "phantom-003.nii.gz")}), 400, "'/'")
    check_error(server.post("/activelearning/oldest", json={}), 404, "oldest", "random")
    check_error(server.post("/train/nnunet", json={}), 404, "nnunet")
    file = label_like(server.studies, "phantom-003", tmp_path / "up.nii.gz", {0: 1})
    check_error(server.put_label("nobody", file), 404, "nobody")
    with pytest.raises(MONAILabelClientException) as caught:
        server.client(tmp_path).infer("nnunet", "phantom-003", {})
    assert "no model 'nnunet'" in caught.value.msg


@pytest.mark.parametrize("params", ["[1]", "{nonsense"])
def test_params_that_are_no_object_are_400(server: Server, tmp_path: Path, params: str) -> None:
    check_error(server.post("/infer/calf", params={"image": "phantom-003"}, data={"params": params}), 400, "params")
    file = label_like(server.studies, "phantom-003", tmp_path / "up.nii.gz", {0: 1})
    check_error(server.put_label("phantom-003", file, params), 400, "params")


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"max_epochs": "x"}, ("max_epochs", "'x'", "1 to 10000"), "the default is 2"),
        ({"max_epochs": -1}, ("max_epochs", "-1"), ""),
        ({"loss": "magic"}, ("magic", "dice_focal"), ""),
        ({"loss": ["dice_focl", "dice"]}, ("unknown loss 'dice_focl'",), "did you mean 'dice_focal'?"),
        ({"sampler": "balance"}, ("unknown sampler 'balance'", "square_root"), "did you mean 'balanced'?"),
        ({"filter": ["outlier"]}, ("unknown filter 'outlier'", "present_ratio"), "did you mean 'outliers'?"),
        ({"filter": "tiny:x"}, ("filter 'tiny:x'", "not a number"), "tiny:0.5"),
        ({"intensity": "skew"}, ("unknown intensity 'skew'", "as_trained"), "did you mean 'skewness'?"),
        ({"epochs": 3}, ("epochs", "max_epochs"), ""),
    ],
)
def test_impossible_training_options_are_422(server: Server, options: Any, words: tuple[str, ...], hint: str) -> None:
    check_error(server.post("/train/calf", json=options), 422, *words, hint=hint)
    check_error(server.post("/train/calf", json=[options]), 400, "type list")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("torn", ("t2w.nii.gz", "truncated or corrupt")),
        ("nan", ("t2f.nii.gz", "3 of 76800 voxels are NaN")),
    ],
)
def test_a_case_that_cannot_be_used_is_422(server: Server, case: str, words: tuple[str, ...]) -> None:
    check_error(server.post("/infer/calf", params={"image": case}), 422, *words)


def test_a_case_without_a_sequence_gets_a_mask_and_a_warning(server: Server) -> None:
    response = server.post("/infer/calf", params={"image": "alone", "output": "json"})
    assert response.status_code == 200, response.text
    reply = response.json()
    assert reply["missing"] == ["t1n"]
    assert reply["warnings"] == ["t1n is missing: bright blood or fat may be taken for enhancing tumour"]
    assert set(reply["confidence"]) == {"WT", "TC", "ET"}


def test_a_bad_label_is_422_and_the_old_one_stays(server: Server, tmp_path: Path) -> None:
    case = "phantom-001"
    final = server.studies / "labels" / "final" / f"{case}.nii.gz"
    before = final.read_bytes()
    garbage = tmp_path / "garbage.nii.gz"
    garbage.write_bytes(b"this is no volume")
    check_error(server.put_label(case, garbage), 422, f"label of case {case}")
    shifted = read_header(server.studies / f"{case}.nii.gz").affine + 3.0 * np.eye(4, k=3)
    moved = label_like(server.studies, case, tmp_path / "moved.nii.gz", {0: 1}, shifted)
    check_error(server.put_label(case, moved), 422, "expected the image's")
    foreign = label_like(server.studies, case, tmp_path / "foreign.nii.gz", {0: 4})
    check_error(server.put_label(case, foreign), 422, "label value 4")
    segments = json.dumps({"label_info": [{"name": "something else", "idx": 1}]})
    unknown = label_like(server.studies, case, tmp_path / "unknown.nii.gz", {0: 1})
    check_error(server.put_label(case, unknown, segments), 422, "something else")
    check_error(server.put_label(case, unknown, tag="../../evil"), 400, "query parameter tag")
    assert final.read_bytes() == before
    assert not list(server.studies.parent.rglob("*evil*"))


def test_an_earlier_label_is_listed_and_comes_back(server: Server, tmp_path: Path) -> None:
    case, query = "phantom-001", {"label": "phantom-001", "tag": "final"}
    final = server.studies / "labels" / "final" / f"{case}.nii.gz"
    before = final.read_bytes()
    other = label_like(server.studies, case, tmp_path / "other.nii.gz", {0: 1})
    sent = server.put_label(case, other).json()
    listed = requests.get(f"{server.url}/datastore/label/versions", params=query, timeout=30).json()["versions"]
    assert listed[-1]["version"] == sent["version"] >= 2
    assert listed[-1]["sha256"] == sent["sha256"]
    back = server.post("/datastore/label/restore", params={**query, "version": listed[-2]["version"]})
    assert back.status_code == 200, back.text
    assert back.json()["version"] == sent["version"] + 1
    assert back.headers["etag"] == f'"{listed[-2]["sha256"]}"'
    assert final.read_bytes() == before
    check_error(server.post("/datastore/label/restore", params={**query, "version": 99}), 404, "has no version 99")
    check_error(server.post("/datastore/label/restore", params={**query, "version": "x"}), 400, "version")


def test_others_are_answered_while_a_case_is_segmented(server: Server) -> None:
    done = threading.Event()
    answers: list[int] = []

    def segment() -> None:
        query = {"image": "phantom-003", "output": "json"}
        answers.extend(server.post("/infer/calf", params=query).status_code for _ in range(4))
        done.set()

    thread = threading.Thread(target=segment)
    thread.start()
    waits = []
    while not done.is_set():
        started = time.monotonic()
        assert requests.get(f"{server.url}/info/", timeout=30).status_code == 200
        waits.append(time.monotonic() - started)
    thread.join()
    assert answers == [200] * 4
    assert len(waits) >= 4, "less than one answer a segmentation"
    assert max(waits) < 10


def test_training_publishes_or_says_why_not(server: Server, tmp_path: Path) -> None:
    client = server.client(tmp_path)
    started = client.train_start("calf", {"max_epochs": 2, "loss": ["auto", "dice"]})
    assert started["status"] in {"SUBMITTED", "RUNNING"}
    check_error(server.post("/train/calf", json={}), 429, "is under way")
    status = finished(client)
    assert status["status"] == "DONE", "\n".join(status["details"])
    for folder in (server.studies.parent, Path(sys.prefix)):
        assert str(folder) not in json.dumps(status), "its last lines are cleaned like a log"
    stats = client.info()["train_stats"]["calf"]
    assert stats["loss"]["reason"].startswith("too few cases: n=")
    assert stats["gate"]["reason"].startswith(("published: ", "not published: "))
    assert (stats["epoch"], stats["total_epochs"]) == (2, 2)
    assert isinstance(stats["best_metric"], float)
    assert "total_time" in stats
    published = server.app / "model" / "calf.pt"
    assert published.is_file() is stats["gate"]["publish"]
    _, reply = client.infer("calf", "phantom-003", {})
    assert reply["model"]["weights"] == ("calf.pt" if stats["gate"]["publish"] else "starter.pt")
    _, other = client.infer("dice_focal", "phantom-003", {})
    assert other["model"]["weights"] == "starter.pt"


def test_a_two_stage_model_is_trained_and_served(server: Server, tmp_path: Path) -> None:
    client = server.client(tmp_path)
    asked = {"max_epochs": 1, "loss": "dice_ce", "sampler": ["balanced_mixup", "auto"], "intensity": "skewness"}
    client.train_start("two_stage", {**asked, "filter": ["empty"], "pretrained": False})
    status = finished(client)
    assert status["status"] == "DONE", "\n".join(status["details"])
    stats = client.info()["train_stats"]["two_stage"]
    assert stats["second_stage"]["form"] == "hard"
    assert (stats["sampler"], len(stats["intensity"]), stats["filter"]["dropped"]) == ("balanced_mixup", 4, [])
    _, reply = client.infer("two_stage", "phantom-003", {})
    assert reply["model"]["weights"] == ("two_stage.pt" if stats["gate"]["publish"] else "starter.pt")
    assert ("two_stage" in reply["model"]) is stats["gate"]["publish"]


def test_uploads_and_results_do_not_stay_behind(server: Server, tmp_path: Path) -> None:
    """The last test of this server: whatever came before, answered or refused, has left nothing."""
    root = server.studies.parent

    def left() -> list[Path]:
        found = [*(root / "tmp").glob("*.n*"), *(root / "home" / "tmp").rglob("*")]
        return [path for path in found if path.is_file()]

    deadline = time.monotonic() + 10  # A result goes after the last byte of it was sent, which the client has by then.
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []


def test_plain_monailabel_serves_the_app(
    tmp_path: Path, phantom_folders: Path, app_toml: str, tiny_weights: Path, main_py: Path
) -> None:
    from rarevoxel.cases import discover

    studies = tmp_path / "studies"
    write_studies(discover(phantom_folders), studies, labels=True)
    app = make_app(tmp_path / "tiny", app_toml, tiny_weights, main_py)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--conf", "models", "calf"]
    with running(command, tmp_path / "log", url, tmp_path / "tmp"):
        server = Server(url, studies, app)
        client = server.client(tmp_path)
        info = client.info()
        assert list(info["models"]) == list(info["trainers"]) == ["calf"]
        assert client.next_sample("first", {})["id"] == "phantom-003"
        file, reply = client.infer("calf", "phantom-003", {"result_extension": ".nrrd"})
        assert read_labels(file).any()
        assert reply["label_names"]["enhancing tumor"] == 3
        label = label_like(studies, "phantom-003", tmp_path / "up.nii.gz", {0: 1})
        client.save_label("phantom-003", str(label), params={"label_info": [{"name": "edema", "idx": 1}]})
        assert set(np.unique(read_labels(studies / "labels" / "final" / "phantom-003.nii.gz"))) == {0, 2}
        assert client.info()["datastore"]["completed"] == 5
        unknown = server.post("/infer/dice_focal", params={"image": "phantom-003"})
        assert unknown.status_code == 404
        assert unknown.json()["detail"]["message"].startswith("no model 'dice_focal', expected one of ['calf']")
        garbage = tmp_path / "garbage.nii.gz"
        garbage.write_bytes(b"this is no volume")
        bad = server.put_label("phantom-003", garbage)
        assert bad.status_code == 422
        assert bad.json()["detail"]["code"] == "invalid_input"

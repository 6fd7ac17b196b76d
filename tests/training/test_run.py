"""A whole training run, and the task a server starts it with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig, PowerConfig, Preprocessing
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.inference import Engine
from rarevoxel.inference import engine as engine_module
from rarevoxel.lineage import Lineage
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.training import LabelledCase, Places, TrainOptions, in_holdout, train_model
from rarevoxel.training import run as run_module
from rarevoxel.training.run import clean_runs
from rarevoxel.training.task import TumorTrainTask, labelled_cases
from rarevoxel.transforms import build_transforms
from rarevoxel.volumes import file_sha256, read_label_volume


def cases(folder: Path, patients: dict[int, str]) -> list[LabelledCase]:
    return [
        LabelledCase(
            f"case-{number}",
            patient,
            folder / f"phantom-00{number}" / "t1c.nii.gz",
            folder / f"phantom-00{number}" / "seg.nii.gz",
        )
        for number, patient in patients.items()
    ]


def on_side(held: bool, count: int) -> list[str]:
    """Patients the hash of whose name lets them judge, or learn."""
    names = (f"patient-{i}" for i in range(1000))
    chosen = (name for name in names if in_holdout(name, 0.25 if held else 0.4) is held)
    return list(islice(chosen, count))


def selecting(count: int) -> list[str]:
    names = (f"patient-{i}" for i in range(1000))
    return list(islice((name for name in names if in_holdout(name, 0.4) and not in_holdout(name, 0.25)), count))


def options(config: AppConfig, **request: Any) -> TrainOptions:
    return TrainOptions.from_request(request, config, "auto")


def test_from_labels_to_published_weights(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    learn, held = on_side(False, 3), on_side(True, 1)
    places = Places.of(tmp_path, "calf", "first")
    labelled = cases(phantom_folders, dict(zip((1, 2, 4, 5), learn + held, strict=True)))
    stats = train_model(config, options(config), labelled, places)
    assert json.loads(places.stats.read_text()) == json.loads(json.dumps(stats))
    split = {"train": ["case-1", "case-2", "case-4"], "select": [], "holdout": ["case-5"], "note": ""}
    assert stats["split"] == split
    assert stats["loss"]["name"] == "calf_bce_dice"
    assert stats["sampler"] == "balanced_mixup"
    assert stats["intensity"] == []
    assert stats["filter"] == {"kept": ["case-1", "case-2", "case-4"], "dropped": [], "notes": []}
    assert stats["loss"]["reason"].startswith("too few cases: n=4 (minimum 20)")
    assert set(stats["statistics"]) == {"WT", "TC", "ET"}
    assert stats["start"] == "random weights"
    assert stats["skipped"] == {}
    assert stats["run"] == stats["version"] == "first"
    assert (stats["eval"]["best_epoch"], stats["options"]["max_epochs"]) == (2, 2), "none selects: the last epoch"
    assert (stats["epoch"], stats["total_epochs"], len(stats["train"]["loss"])) == (2, 2, 2)
    assert isinstance(stats["best_metric"], float)
    assert "total_time" in stats
    assert stats["gate"]["publish"] is True
    assert stats["gate"]["reason"].startswith("published: mean region Dice")
    assert list(stats["gate"]["cases"]) == ["case-5"]
    assert places.published.read_bytes() == (places.run / "candidate.pt").read_bytes()
    *_, preprocessing, info = load_weights(places.published)
    assert preprocessing == config.preprocessing
    assert info == {"name": "calf", "loss": "calf_bce_dice", "cases": 3, "epochs": 2, "peak": stats["peak"]}
    lineage = Lineage.load(places.run / "lineage.json")
    assert lineage == Lineage.load(tmp_path / "model" / "calf.lineage.json")
    assert lineage.gate == json.loads(json.dumps(stats["gate"]))
    assert lineage.sha256 == file_sha256(places.published)
    assert (lineage.start, lineage.incumbent) == (None, None)
    assert {"torch", "monai", "rarevoxel"} <= set(lineage.versions)
    assert lineage.configuration["network"]["filters"] == list(config.network.filters)
    assert lineage.platform["threads"] == torch.get_num_threads()
    (held_case,) = (case for case in lineage.cases if case.side == "holdout")
    assert (held_case.id, held_case.patient) == ("case-5", held[0])
    assert held_case.label == file_sha256(labelled[3].label)
    assert held_case.sequences["t1c"] == file_sha256(labelled[3].image)
    assert str(tmp_path.parent) not in (places.run / "lineage.json").read_text(), "no paths"
    assert not list(tmp_path.rglob(".*.tmp"))


def test_what_does_not_help_is_not_published(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.of(tmp_path, "calf", "run")
    own = Preprocessing(spacing=(5.0, 5.0, 5.0))
    known = {"missing": {"t2f": {"WT": 0.1}}, "steps": 7}
    save_weights(places.starter, build_network(config.network), config.network, own, known)
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    # Next to nothing is learned at this rate, so the candidate is the incumbent.
    stats = train_model(config, options(config, max_epochs=1, learning_rate=1e-12), labelled, places)
    assert stats["start"] == "starter.pt"
    assert stats["gate"]["publish"] is False
    assert stats["gate"]["candidate"] == stats["gate"]["incumbent"]
    assert stats["gate"]["reason"].startswith("not published: too few cases to judge (1 hold-out patient, at least 3")
    assert not places.published.exists()
    assert Lineage.load(places.run / "lineage.json").gate["publish"] is False, "refused runs have a lineage too"
    *_, preprocessing, info = load_weights(places.run / "candidate.pt")
    assert preprocessing == own, "weights go on with the preprocessing they were made with"
    assert info["missing"] == known["missing"], "a training on complete cases says nothing of those without a sequence"
    assert "steps" not in info


def judged_by_three(folder: Path) -> list[LabelledCase]:
    """Two patients to learn from, one who selects, three who judge; some are copies of one phantom."""
    patients = on_side(False, 2) + selecting(1) + on_side(True, 3)
    numbers = (1, 2, 4, 5, 1, 2)
    found = cases(folder, {number: str(number) for number in (1, 2, 4, 5)})
    by_number = dict(zip((1, 2, 4, 5), found, strict=True))
    return [
        replace(by_number[number], id=f"case-{at}", patient=patient)
        for at, (number, patient) in enumerate(zip(numbers, patients, strict=True))
    ]


@pytest.mark.fault(41)
def test_a_worse_candidate_is_refused_and_the_old_weights_stay(
    config: AppConfig, tmp_path: Path, phantom_folders: Path
) -> None:
    labelled = judged_by_three(phantom_folders)
    places = Places.of(tmp_path, "calf", "good")
    learning = options(config, max_epochs=5, loss="dice_ce", learning_rate=0.02, patches_per_case=6)
    good = train_model(config, learning, labelled, places)
    assert good["gate"]["publish"]
    assert good["split"]["select"] == ["case-2"]
    assert good["split"]["holdout"] == ["case-3", "case-4", "case-5"]
    before = places.published.read_bytes()
    # From scratch, at a rate at which nothing is learned.
    asked = options(config, max_epochs=1, pretrained=False, learning_rate=1e-12)
    places = Places.of(tmp_path, "calf", "worse")
    worse = train_model(config, asked, labelled, places)
    gate = worse["gate"]
    assert not gate["publish"]
    assert gate["reason"].startswith("not published: mean region Dice")
    assert gate["n"] == 3
    assert gate["candidate"] < gate["incumbent"] == pytest.approx(good["gate"]["candidate"])
    assert gate["against"]["name"] == "good"
    assert "version" not in worse
    assert places.published.read_bytes() == before
    assert [version.name for version in places.registry(5).versions() if version.in_service] == ["good"]
    lineage = places.registry(5).lineage("worse")
    assert lineage.incumbent is not None
    assert lineage.incumbent.sha256 == file_sha256(places.published)
    assert lineage.gate["reason"] == gate["reason"]


@pytest.mark.fault(39)
def test_labels_without_any_tumour_train_nothing(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    patients = dict(zip((1, 2, 4, 5), on_side(False, 3) + on_side(True, 1), strict=True))
    whole = cases(phantom_folders, patients)
    labelled = [replace(case, label=_emptied(case.label, tmp_path / case.id)) for case in whole]
    places = Places.of(tmp_path, "calf", "run")
    with pytest.raises(ConflictError, match=r"0 labelled cases of 0 patients.*left out: case-1: .*empty"):
        train_model(config, options(config), labelled, places)
    declared = [replace(case, empty=True) for case in labelled]
    with pytest.raises(ConflictError, match="labels of all 3 training cases are empty of tumour"):
        train_model(config, options(config), declared, places)
    one = [*whole[:1], *declared[1:]]
    stats = train_model(config, options(config, max_epochs=1), one, places)
    assert stats["skipped"] == {}
    assert [case.empty for case in Lineage.load(places.run / "lineage.json").cases] == [False, True, True, True]


def _emptied(label: Path, folder: Path) -> Path:
    volume = nib.load(label)
    folder.mkdir()
    nib.save(nib.Nifti1Image(np.zeros(volume.shape, np.uint8), volume.affine), folder / "seg.nii.gz")
    return folder / "seg.nii.gz"


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"run-{number}").mkdir()
        os.utime(tmp_path / f"run-{number}", (1000 + number, 1000 + number))
    clean_runs(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-3", "run-4"]


@pytest.mark.fault(39)
def test_a_case_that_cannot_be_used_is_left_out_with_its_reason(
    config: AppConfig, tmp_path: Path, phantom_folders: Path
) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    corrupt = tmp_path / "corrupt.nii.gz"
    whole = labelled[0].label.read_bytes()
    corrupt.write_bytes(whole[: len(whole) // 2])
    alone = tmp_path / "alone" / "scan.nii.gz"  # Whose name tells no sequence.
    alone.parent.mkdir()
    alone.write_bytes(labelled[0].image.read_bytes())
    labelled += [
        LabelledCase("bad-label", "p8", labelled[0].image, corrupt),
        LabelledCase("bad-image", "p9", alone, labelled[0].label),
    ]
    stats = train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    assert set(stats["skipped"]) == {"bad-label", "bad-image"}
    assert "truncated or corrupt" in stats["skipped"]["bad-label"]
    assert "sequence t1n, t1c, t2w, t2f is missing" in stats["skipped"]["bad-image"]
    assert stats["missing"] == {}
    assert str(tmp_path) not in json.dumps(stats), "clients see no paths"
    assert sorted(stats["split"]["train"] + stats["split"]["holdout"]) == ["case-1", "case-2", "case-5"]


def test_one_patient_cannot_train_and_judge(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    places = Places.of(tmp_path, "calf", "run")
    with pytest.raises(ConflictError, match="2 labelled cases of 1 patients, expected at least 3 patients"):
        train_model(config, options(config), cases(phantom_folders, {1: "same", 2: "same"}), places)
    with pytest.raises(ConflictError, match="0 labelled cases of 0 patients"):
        train_model(config, options(config), [], places)
    assert not places.published.exists()


def test_too_few_usable_cases_says_why(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    labelled = cases(phantom_folders, {1: "a", 2: "b", 4: "c"})
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    labelled[1] = replace(labelled[1], label=tmp_path / "empty.nii.gz")
    with pytest.raises(
        ConflictError, match=r"2 labelled cases of 2 patients.*left out: case-2: empty.nii.gz: .*is empty"
    ):
        train_model(config, options(config), labelled, Places.of(tmp_path, "calf", "run"))


def test_a_borrowed_hold_out_is_noted(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    learn = on_side(False, 3)
    labelled = cases(phantom_folders, dict(zip((1, 2, 4), learn, strict=True)))
    stats = train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    assert "is borrowed to judge" in stats["split"]["note"]
    assert (len(stats["split"]["train"]), len(stats["split"]["holdout"])) == (2, 1)


def tumour_ml(case: LabelledCase) -> float:
    volume = read_label_volume(case.label)
    return float(np.count_nonzero(volume.array) * np.prod(volume.grid.spacing)) / 1000


def test_what_the_filter_drops_is_told(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 2, 4, 5), on_side(False, 3) + on_side(True, 1), strict=True)))
    sizes = {case.id: 1000 * tumour_ml(case) for case in labelled}
    smallest, second = sorted((case.id for case in labelled[:3]), key=lambda case: sizes[case])[:2]
    limit = (sizes[smallest] + sizes[second]) / 2
    places = Places.of(tmp_path, "calf", "run")
    stats = train_model(config, options(config, max_epochs=1, filter=f"tiny:{limit}"), labelled, places)
    (dropped,) = stats["filter"]["dropped"]
    assert (dropped["id"], dropped["rule"]) == (smallest, "tiny")
    assert "is below the minimum" in dropped["reason"]
    assert stats["filter"]["kept"] == [case.id for case in labelled[:3] if case.id != smallest]
    assert stats["split"]["train"] == [case.id for case in labelled[:3]], "the split is that before the filter"
    left = [size for case, size in sizes.items() if case != smallest]
    assert stats["statistics"]["WT"]["n_cases"] == 3
    assert stats["statistics"]["WT"]["mean"] == pytest.approx(np.mean(left))
    for path in (places.stats, places.run / "lineage.json"):
        assert json.loads(path.read_text())["filter"] == json.loads(json.dumps(stats["filter"]))
    assert load_weights(places.published)[3]["cases"] == 2


def engine_input(config: AppConfig, weights: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What the network of a weight file is shown when the engine serves it."""
    seen: list[torch.Tensor] = []
    predict = engine_module.predict_probabilities

    def listen(network: torch.nn.Module, image: torch.Tensor, **settings: Any) -> torch.Tensor:
        seen.append(image[0].cpu())
        return predict(network, image, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "predict_probabilities", listen)
        Engine(config, [weights], device="cpu").predict(image)
    return seen[0]


def prepared(config: AppConfig, image: Path, power: tuple[PowerConfig, ...]) -> torch.Tensor:
    config = replace(config, preprocessing=replace(config.preprocessing, power=power))
    return build_transforms(config, "infer")({"image": image})["image"].as_tensor()


def test_skewed_intensities_are_straightened_in_training_and_serving(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    image = labelled[2].image
    places = Places.of(tmp_path, "calf", "run")
    stats = train_model(config, options(config, max_epochs=1, intensity="skewness"), labelled, places)
    power = load_weights(places.published)[2].power
    assert len(power) == 4
    assert any(function.kind != "none" for function in power), "a phantom has a skewed sequence"
    assert [PowerConfig(**record) for record in stats["intensity"]] == list(power)
    shown = engine_input(config, places.published, image, monkeypatch)
    assert torch.equal(shown, prepared(config, image, power))
    assert not torch.allclose(shown, prepared(config, image, ()), atol=0.05)

    places = Places.of(tmp_path, "calf", "as_trained")
    stats = train_model(config, options(config, max_epochs=1), labelled, places)
    assert stats["start"] == "calf.pt"
    assert [PowerConfig(**record) for record in stats["intensity"]] == list(power)
    assert load_weights(places.run / "candidate.pt")[2].power == power

    places = Places.of(tmp_path, "calf", "zscore")
    stats = train_model(config, options(config, max_epochs=1, intensity="zscore"), labelled, places)
    assert stats["start"] == "calf.pt"
    assert stats["intensity"] == []
    assert load_weights(places.run / "candidate.pt")[2].power == ()
    shown = engine_input(config, places.run / "candidate.pt", image, monkeypatch)
    assert torch.equal(shown, prepared(config, image, ()))


def test_other_weights_to_start_from_bring_their_own_intensities(
    config: AppConfig, tmp_path: Path, phantom_folders: Path
) -> None:
    """Without `pretrained`, those of the app count, not those in service."""
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    places = Places.of(tmp_path, "calf", "run")
    bent = replace(config.preprocessing, power=(PowerConfig("sqrt"),) * 4)
    save_weights(places.published, build_network(config.network), config.network, bent, {})
    stats = train_model(config, options(config, max_epochs=1, pretrained=False), labelled, places)
    assert (stats["start"], stats["intensity"]) == ("random weights", [])


def test_every_part_of_the_run_gets_its_options(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    asked = options(config, max_epochs=1, sampler="balanced_mixup", loss="dice+0.5*focal")
    stats = train_model(config, asked, labelled, Places.of(tmp_path, "calf", "run"))
    assert (stats["sampler"], stats["loss"]["name"]) == ("balanced_mixup", "dice+0.5*focal")
    assert TrainOptions.from_request(stats["options"], config, "auto") == asked


@pytest.fixture
def task(config: AppConfig, tmp_path: Path) -> TumorTrainTask:
    return TumorTrainTask("dice_focal", config, tmp_path / "app")


def test_the_task_s_options_are_its_model_s(task: TumorTrainTask) -> None:
    assert task.config()["loss"][0] == "dice_focal"
    assert task.options({}).loss == "dice_focal"
    with pytest.raises(RequestError, match="max_epochs"):
        task.options({"max_epochs": "x"})


def test_stats_are_empty_before_the_first_run(task: TumorTrainTask) -> None:
    assert task.stats() == {}


@pytest.mark.fault(38)
@pytest.mark.parametrize("content", ["", '{"epoch": 3, "to', "[1, 2]", "\udce9".encode("utf-8", "surrogateescape")])
def test_torn_stats_are_a_warning(task: TumorTrainTask, tmp_path: Path, content: str | bytes) -> None:
    path = Places.of(tmp_path / "app", "dice_focal").stats
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert list(task.stats()) == ["warning"]
    assert "train_stats.json" in task.stats()["warning"]
    path.write_text('{"epoch": 3}')
    assert task.stats() == {"epoch": 3}


def test_the_task_trains_on_the_labels_of_a_datastore(
    task: TumorTrainTask, studies: Path, tmp_path: Path, save_tiny: Callable[..., Path]
) -> None:
    datastore = StudiesDatastore(str(studies))
    found = labelled_cases(datastore)
    assert [case.id for case in found] == ["phantom-001", "phantom-002", "phantom-004", "phantom-005"]
    assert all(case.label.is_file() and case.image.parent == studies for case in found)
    stats = task({"model": "dice_focal", "max_epochs": 1, "gpus": "all", "local_rank": 0}, datastore)
    assert stats["loss"] == {"name": "dice_focal", "reason": "'dice_focal' was asked for by name."}
    assert json.loads(json.dumps(stats)) == task.stats()
    assert (tmp_path / "app" / "model" / "dice_focal.pt").is_file()
    assert len(list((tmp_path / "app" / "model" / "dice_focal" / "runs").iterdir())) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_chosen_by_the_cases_that_judge(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    asked: list[tuple[list[str], list[str], bool]] = []
    real = run_module.train_networks

    def listen(network: Any, plan: Any, options: Any, validate: Any, **rest: Any) -> Any:
        asked.append(([case["id"] for case in validate], [case["id"] for case in rest["tune"]], rest["select"]))
        return real(network, plan, options, validate, **rest)

    monkeypatch.setattr(run_module, "train_networks", listen)
    patients = [*on_side(False, 2), *selecting(count), *on_side(True, 1)]
    labelled = cases(phantom_folders, dict(zip((1, 2, 4, 5), patients, strict=False)))
    train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    judge = labelled[-1].id
    if count:
        assert asked == [(["case-4"], ["case-4"], True)]
    else:
        assert asked == [([judge], ["case-1", "case-2"], False)], "validated to show the progress, not selected on"

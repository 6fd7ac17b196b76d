"""A whole training run, and the task a server starts it with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig, PowerConfig, Preprocessing
from rarevoxel.datastore import StudiesDatastore
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.inference import Engine
from rarevoxel.inference import engine as engine_module
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.training import LabelledCase, Places, TrainOptions, in_holdout, train_model
from rarevoxel.training.task import TumorTrainTask, labelled_cases
from rarevoxel.transforms import build_transforms
from rarevoxel.volumes import read_label_volume


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
    """Patients the hash of whose name puts them on one side of the split."""
    names = (f"patient-{i}" for i in range(1000))
    return [name for name, _ in zip((n for n in names if in_holdout(n, 0.25) is held), range(count), strict=False)]


def options(config: AppConfig, **request: Any) -> TrainOptions:
    return TrainOptions.from_request(request, config, "auto")


def test_from_labels_to_published_weights(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    learn, held = on_side(False, 3), on_side(True, 1)
    places = Places.of(tmp_path, "calf", "first")
    labelled = cases(phantom_folders, dict(zip((1, 2, 4, 5), learn + held, strict=True)))
    stats = train_model(config, options(config), labelled, places)
    assert json.loads(places.stats.read_text()) == json.loads(json.dumps(stats))
    assert stats["split"] == {"train": ["case-1", "case-2", "case-4"], "holdout": ["case-5"], "note": ""}
    assert stats["loss"]["name"] == "calf_bce_dice"
    assert stats["sampler"] == "balanced_mixup"
    assert stats["intensity"] == []
    assert stats["filter"] == {"kept": ["case-1", "case-2", "case-4"], "dropped": [], "notes": []}
    assert stats["loss"]["reason"].startswith("too few cases: n=4 (minimum 20)")
    assert set(stats["statistics"]) == {"WT", "TC", "ET"}
    assert stats["start"] == "random weights"
    assert stats["skipped"] == {}
    assert (stats["epoch"], stats["total_epochs"], len(stats["train"]["loss"])) == (2, 2, 2)
    assert isinstance(stats["best_metric"], float)
    assert "total_time" in stats
    assert stats["gate"]["publish"] is True
    assert stats["gate"]["reason"].startswith("published: mean region Dice")
    assert list(stats["gate"]["cases"]) == ["case-5"]
    assert places.published.read_bytes() == (places.run / "candidate.pt").read_bytes()
    *_, preprocessing, info = load_weights(places.published)
    assert preprocessing == config.preprocessing
    assert info == {"name": "calf", "loss": "calf_bce_dice", "cases": 3, "epochs": 2}
    lineage = json.loads((places.run / "lineage.json").read_text())
    assert lineage["gate"] == json.loads(json.dumps(stats["gate"]))
    assert {"torch", "monai", "rarevoxel"} <= set(lineage["versions"])
    assert lineage["configuration"]["network"]["filters"] == list(config.network.filters)
    assert not list(tmp_path.rglob(".*.tmp"))


def test_what_does_not_help_is_not_published(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.of(tmp_path, "calf", "run")
    own = Preprocessing(spacing=(5.0, 5.0, 5.0))
    save_weights(places.starter, build_network(config.network), config.network, own, {})
    labelled = cases(phantom_folders, dict(zip((1, 5), on_side(False, 1) + on_side(True, 1), strict=True)))
    # Next to nothing is learned at this rate, so the candidate is the incumbent.
    stats = train_model(config, options(config, max_epochs=1, learning_rate=1e-12), labelled, places)
    assert stats["start"] == "starter.pt"
    assert stats["gate"]["publish"] is False
    assert stats["gate"]["candidate"] == stats["gate"]["incumbent"]
    assert stats["gate"]["reason"].startswith("not published: mean region Dice")
    assert not places.published.exists()
    *_, preprocessing, _ = load_weights(places.run / "candidate.pt")
    assert preprocessing == own, "weights go on with the preprocessing they were made with"


def test_a_case_that_cannot_be_used_is_left_out_with_its_reason(
    config: AppConfig, tmp_path: Path, phantom_folders: Path
) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 2, 5), on_side(False, 2) + on_side(True, 1), strict=True)))
    corrupt = tmp_path / "corrupt.nii.gz"
    whole = labelled[0].label.read_bytes()
    corrupt.write_bytes(whole[: len(whole) // 2])
    alone = tmp_path / "alone" / "t1c.nii.gz"
    alone.parent.mkdir()
    alone.write_bytes(labelled[0].image.read_bytes())
    labelled += [
        LabelledCase("bad-label", "p8", labelled[0].image, corrupt),
        LabelledCase("bad-image", "p9", alone, labelled[0].label),
    ]
    stats = train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    assert set(stats["skipped"]) == {"bad-label", "bad-image"}
    assert "truncated or corrupt" in stats["skipped"]["bad-label"]
    assert "t1n" in stats["skipped"]["bad-image"]
    assert sorted(stats["split"]["train"] + stats["split"]["holdout"]) == ["case-1", "case-2", "case-5"]


def test_one_patient_cannot_train_and_judge(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    places = Places.of(tmp_path, "calf", "run")
    with pytest.raises(ConflictError, match="2 labelled cases of 1 patients, expected at least 2 patients"):
        train_model(config, options(config), cases(phantom_folders, {1: "same", 2: "same"}), places)
    with pytest.raises(ConflictError, match="0 labelled cases of 0 patients"):
        train_model(config, options(config), [], places)
    assert not places.published.exists()


def test_too_few_usable_cases_says_why(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    labelled = cases(phantom_folders, {1: "a", 2: "b"})
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    labelled[1] = replace(labelled[1], label=tmp_path / "empty.nii.gz")
    with pytest.raises(ConflictError, match=r"1 labelled cases of 1 patients.*left out: case-2: .*file is empty"):
        train_model(config, options(config), labelled, Places.of(tmp_path, "calf", "run"))


def test_a_borrowed_hold_out_is_noted(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    learn = on_side(False, 2)
    labelled = cases(phantom_folders, dict(zip((1, 2), learn, strict=True)))
    stats = train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    assert "is borrowed to judge" in stats["split"]["note"]
    assert len(stats["split"]["train"]) == len(stats["split"]["holdout"]) == 1


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
    labelled = cases(phantom_folders, dict(zip((1, 5), on_side(False, 1) + on_side(True, 1), strict=True)))
    image = labelled[1].image
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
    labelled = cases(phantom_folders, dict(zip((1, 5), on_side(False, 1) + on_side(True, 1), strict=True)))
    places = Places.of(tmp_path, "calf", "run")
    bent = replace(config.preprocessing, power=(PowerConfig("sqrt"),) * 4)
    save_weights(places.published, build_network(config.network), config.network, bent, {})
    stats = train_model(config, options(config, max_epochs=1, pretrained=False), labelled, places)
    assert (stats["start"], stats["intensity"]) == ("random weights", [])


def test_every_part_of_the_run_gets_its_options(config: AppConfig, tmp_path: Path, phantom_folders: Path) -> None:
    labelled = cases(phantom_folders, dict(zip((1, 5), on_side(False, 1) + on_side(True, 1), strict=True)))
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

"""Phantoms: the same from the same seed, of the sizes asked for, with labels that mean what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import stats

from rarevoxel.cases import discover
from rarevoxel.errors import ConfigError, ConflictError
from rarevoxel.labels import labels_to_regions
from rarevoxel.phantom import (
    Focus,
    PhantomSpec,
    Severity,
    Tissue,
    anatomy,
    contrast_table,
    generate,
    grow,
    make_phantom,
    tissue_to_labels,
    tumour_map,
    write_phantoms,
)
from rarevoxel.phantom.write import spread_evenly, to_integers

SMALL = PhantomSpec(size=(48, 56, 48), spacing=(3.0, 3.0, 3.0))
TINY = PhantomSpec(size=(20, 24, 20), spacing=(7.0, 7.0, 7.0))


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, SMALL)


def test_the_same_seed_gives_the_same_voxels_and_another_does_not(phantom) -> None:
    again, other = make_phantom(3, SMALL), make_phantom(4, SMALL)
    np.testing.assert_array_equal(phantom.images, again.images)
    np.testing.assert_array_equal(phantom.labels, again.labels)
    assert not np.array_equal(phantom.images, other.images)
    assert not np.array_equal(phantom.tissue == Tissue.AIR, other.tissue == Tissue.AIR)


def test_images_are_zero_exactly_outside_the_brain(phantom) -> None:
    brain = phantom.tissue != Tissue.AIR
    assert phantom.images.shape == (4, 48, 56, 48)
    assert phantom.images.dtype == np.float32
    for image in phantom.images:
        np.testing.assert_array_equal(image > 0, brain)
    assert 0.1 < brain.mean() < 0.6


def test_labels_are_nested_regions_inside_the_brain(phantom) -> None:
    assert set(np.unique(phantom.labels)) <= {0, 1, 2, 3}
    assert (phantom.labels > 0).sum() > 0
    assert not (phantom.labels[phantom.tissue == Tissue.AIR] > 0).any()
    whole, core, enhancing = labels_to_regions(phantom.labels)
    assert whole.sum() >= core.sum() >= enhancing.sum()
    lookup = tissue_to_labels(np.arange(len(Tissue), dtype=np.uint8))
    assert dict(zip(Tissue, lookup.tolist(), strict=True)) == {
        **dict.fromkeys(Tissue, 0),
        Tissue.EDEMA: 2,
        Tissue.CORE: 1,
        Tissue.NECROSIS: 1,
        Tissue.ENHANCING: 3,
    }


def test_the_affine_puts_the_origin_in_the_middle(phantom) -> None:
    middle = phantom.affine @ [23.5, 27.5, 23.5, 1]
    np.testing.assert_allclose(middle, [0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(np.diag(phantom.affine), [3, 3, 3, 1])


@pytest.mark.parametrize("kind", ["ring", "solid", "infiltrating", "lesion"])
def test_a_focus_has_the_volume_and_the_core_asked_for(kind: str) -> None:
    rng = np.random.default_rng(1)
    tissue = anatomy(rng, SMALL.size, SMALL.spacing)
    inside = np.argwhere(tissue == Tissue.WHITE)
    centre = tuple(inside[np.abs(inside - [24, 28, 26]).sum(axis=1).argmin()].tolist())
    grown = grow(tissue, Focus(20_000.0, 0.4, kind, centre), rng, SMALL.spacing)
    whole, core, enhancing = (int(mask.sum()) for mask in labels_to_regions(tissue_to_labels(grown)))
    assert abs(whole - 20_000 / 27) <= 1
    assert abs(core - (0 if kind == "lesion" else 0.4 * whole)) <= 1
    assert (enhancing > 0) == (kind in ("ring", "solid")) or kind == "infiltrating"
    changed = grown != tissue
    np.testing.assert_array_equal(changed, grown >= Tissue.EDEMA)


def test_whole_tumour_volume_is_the_drawn_one_to_a_voxel_per_focus() -> None:
    fixed = Severity(median_ml=30.0, sigma=0.0, foci=(2, 2), lesion_share=0.0)
    spec = PhantomSpec(size=SMALL.size, spacing=SMALL.spacing, severity=fixed)
    volumes = [0.027 * np.count_nonzero(tissue_to_labels(tumour_map(np.random.default_rng(s), spec))) for s in range(6)]
    assert max(abs(v - 30.0) for v in volumes) <= 2 * 0.027


def test_volumes_are_log_normal_so_that_skewness_can_be_steered(monkeypatch) -> None:
    brain = np.full((28, 32, 28), Tissue.WHITE, dtype=np.uint8)
    monkeypatch.setattr(generate, "anatomy", lambda *_: brain)
    wide = Severity(median_ml=4.0, sigma=0.8, foci=(1, 1), lesion_share=1.0)
    spec = PhantomSpec(size=(28, 32, 28), spacing=(5.0, 5.0, 5.0), severity=wide)
    maps = (tumour_map(np.random.default_rng(seed), spec) for seed in range(200))
    volumes = [0.125 * np.count_nonzero(tissue_to_labels(tissue)) for tissue in maps]
    logs = np.log(volumes)
    assert logs.mean() == pytest.approx(math.log(4.0), abs=4 * 0.8 / math.sqrt(200))
    assert logs.std() == pytest.approx(0.8, rel=0.2)
    assert stats.skew(volumes) > 1.0
    assert stats.kstest(logs, "norm", args=(math.log(4.0), 0.8)).pvalue > 0.001


def test_more_foci_when_asked(monkeypatch) -> None:
    grown: list[Focus] = []
    monkeypatch.setattr(
        generate, "grow", lambda tissue, focus, *rest: grown.append(focus) or grow(tissue, focus, *rest)
    )
    one = Severity(median_ml=2.0, sigma=0.1, foci=(1, 1), lesion_share=1.0)
    counts: dict[bool, list[int]] = {False: [], True: []}
    for multifocal, seen in counts.items():
        spec = PhantomSpec(TINY.size, TINY.spacing, severity=one, multifocal=multifocal)
        for seed in range(12):
            grown.clear()
            tumour_map(np.random.default_rng(seed), spec)
            seen.append(len(grown))
    assert set(counts[False]) == {1}
    assert set(counts[True]) == {2, 3}


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.15])
def test_what_makes_a_lesion_one_survives_any_contrast(spread: float) -> None:
    for seed in range(50):
        t1n, t1c, t2w, t2f = contrast_table(np.random.default_rng(seed), spread)
        assert t2f[Tissue.EDEMA] > max(t2f[Tissue.WHITE], t2f[Tissue.GREY])
        assert t2w[Tissue.EDEMA] > t2w[Tissue.WHITE]
        assert t1c[Tissue.ENHANCING] > t1n[Tissue.ENHANCING]
        assert t1c[Tissue.ENHANCING] > t1c[Tissue.WHITE]
        assert (t1n[Tissue.AIR], t1n[1:].min() > 0) == (0, True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"severity": "awful"}, r"unknown severity 'awful', expected one of \['mild', 'moderate', 'severe', 'tiny'"),
        ({"size": (96, 8, 96)}, r"phantom size \(96, 8, 96\) is too small"),
        ({"spacing": (1.0, 0.0, 1.0)}, r"phantom spacing \(1.0, 0.0, 1.0\) must be positive"),
    ],
)
def test_specs_that_make_no_sense(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        PhantomSpec(**options)


def test_written_cases_are_found_again_with_the_same_voxels(tmp_path: Path) -> None:
    written = write_phantoms(tmp_path, 4, seed=5, spec=TINY, labelled=2, prefix="toy")
    assert [case.id for case in written] == ["toy-001", "toy-002", "toy-003", "toy-004"]
    assert [case.seed for case in written] == [5, 6, 7, 8]
    assert [case.labelled for case in written] == [True, False, True, False]
    assert json.loads(json.dumps(written[0].to_dict()))["regions_ml"] == written[0].regions_ml
    found = discover(tmp_path)
    assert [(case.id, case.label is not None) for case in found] == [(c.id, c.labelled) for c in written]
    phantom = make_phantom(7, TINY)
    for index, name in enumerate(("t1n", "t1c", "t2w", "t2f")):
        image = nibabel.load(found[2].sequences[name])
        assert image.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(image.dataobj), to_integers(phantom.images)[index])
        np.testing.assert_allclose(image.affine, phantom.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(nibabel.load(found[2].label).dataobj), phantom.labels)
    expected = np.count_nonzero(phantom.labels) * 0.343
    assert written[2].regions_ml["WT"] == pytest.approx(expected, abs=1e-3)


def test_writing_again_gives_the_same_bytes_and_asks_first(tmp_path: Path) -> None:
    write_phantoms(tmp_path, 1, seed=5, spec=TINY)
    before = {path.name: path.read_bytes() for path in (tmp_path / "phantom-001").iterdir()}
    with pytest.raises(ConflictError, match=r"1 of 2 case folders exist already \(phantom-001\)"):
        write_phantoms(tmp_path, 2, seed=5, spec=TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantom-001"]
    write_phantoms(tmp_path, 1, seed=5, spec=TINY, force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "phantom-001").iterdir()} == before
    write_phantoms(tmp_path, 1, seed=5, spec=TINY, labelled=0, force=True)
    assert set(before) - {path.name for path in (tmp_path / "phantom-001").iterdir()} == {"seg.nii.gz"}


def test_integers_keep_the_brain() -> None:
    images = np.array([0.0, 1e-3, 1.0, 1e6], dtype=np.float32)
    assert to_integers(images).tolist() == [0, 1, 175, 32767]


def test_labels_are_spread_evenly() -> None:
    assert list(spread_evenly(12, 6)) == [0, 2, 4, 6, 8, 10]
    assert list(spread_evenly(5, 2)) == [0, 2]
    assert list(spread_evenly(3, 3)) == [0, 1, 2]
    assert list(spread_evenly(3, 0)) == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"count": 0}, r"number of phantoms \(0\) must be >= 1"),
        ({"count": 1, "seed": -1}, r"seed \(-1\) must be >= 0"),
        ({"count": 2, "labelled": 3}, r"labelled phantoms \(3\) must be from 0 to 2"),
        ({"count": 1, "prefix": "../up"}, r"prefix '../up' cannot begin a case name"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, arguments: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        write_phantoms(tmp_path, spec=TINY, **arguments)
    assert list(tmp_path.iterdir()) == []

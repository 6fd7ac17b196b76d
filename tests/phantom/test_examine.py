"""Examinations of a scene."""

from __future__ import annotations

import numpy as np
import pytest

from rarevoxel.phantom import examine as module
from rarevoxel.phantom.contrast import draw_table
from rarevoxel.phantom.examine import examine, without_contrast
from rarevoxel.phantom.scene import Material, Scene, draw_scene
from rarevoxel.phantom.scene.material import ENHANCES

ENHANCING = 3


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(np.random.default_rng(0), (24, 31, 24), (6.0, 6.0, 6.0), "glioma")


def test_a_perfect_examination_shows_the_brain_and_nothing_else(scene: Scene) -> None:
    images, shown = examine(scene, np.random.default_rng(0), strength=0.0)
    np.testing.assert_array_equal(shown.labels, scene.labels)
    assert images.shape == (4, *scene.labels.shape)
    assert images.dtype == np.float32
    for image in images:
        np.testing.assert_array_equal(image > 0, scene.brain)


def test_a_state_gives_the_same_examination(scene: Scene) -> None:
    first, second = (examine(scene, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.any(first != examine(scene, np.random.default_rng(4))[0])


def test_what_is_missing_is_empty_and_changes_nothing_else(scene: Scene) -> None:
    whole, _ = examine(scene, np.random.default_rng(5), missing=())
    without, shown = examine(scene, np.random.default_rng(5), missing=(1, 3))
    assert whole.any(axis=(1, 2, 3)).all()
    assert without.any(axis=(1, 2, 3)).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(without[0], whole[0])
    np.testing.assert_array_equal(shown.labels, np.where(whole.any(axis=0), scene.labels, 0))  # Stripping cuts some.


def test_sequences_are_missing_now_and_then_where_it_is_left_to_chance(scene: Scene) -> None:
    small = scene.crop((slice(8, 13),) * 3)
    lacking = [4 - np.count_nonzero(examine(small, np.random.default_rng(s))[0].any(axis=(1, 2, 3))) for s in range(60)]
    assert 0 < np.count_nonzero(lacking) < 15


def test_nothing_is_labelled_where_the_mask_has_cut_it_off(scene: Scene) -> None:
    for seed in range(30):
        images, shown = examine(scene, np.random.default_rng(seed), missing=())
        inside = images.any(axis=0)
        assert not shown.labels[~inside].any()
        np.testing.assert_array_equal(
            shown.labels[inside & (shown.disease == scene.disease)],
            scene.labels[inside & (shown.disease == scene.disease)],
        )


def test_without_contrast_agent_nothing_is_labelled_as_enhancing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.any(scene.labels == ENHANCING)
    monkeypatch.setattr(module, "WITHOUT_CONTRAST", 1.0)
    _, shown = examine(scene, np.random.default_rng(0))
    assert not np.any(shown.labels == ENHANCING)
    assert np.count_nonzero(shown.labels) > 0.9 * np.count_nonzero(scene.labels)
    assert np.any(scene.labels == ENHANCING)
    _, perfect = examine(scene, np.random.default_rng(0), strength=0.0)
    np.testing.assert_array_equal(perfect.labels, scene.labels)


def test_the_table_without_contrast_agent() -> None:
    table = draw_table(np.random.default_rng(0))
    plain = without_contrast(table)
    others = [m for m in Material if m not in ENHANCES]
    np.testing.assert_array_equal(plain[1, list(ENHANCES)], table[0, list(ENHANCES)])
    np.testing.assert_array_equal(plain[1, others], table[1, others])
    np.testing.assert_array_equal(plain[[0, 2, 3]], table[[0, 2, 3]])
    assert np.any(plain != table)

"""Materials, and a scene while it is drawn into."""

from __future__ import annotations

import numpy as np
import pytest

from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.phantom import Tissue
from rarevoxel.phantom.scene import Material, Scene, empty_scene
from rarevoxel.phantom.scene.canvas import FULL, box_around, offsets_mm, paint
from rarevoxel.phantom.scene.material import FIRST_DISEASE, LABEL_OF

MM = (2.0, 3.0, 4.0)


@pytest.fixture
def scene() -> Scene:
    healthy = np.random.default_rng(0).integers(0, FIRST_DISEASE, size=(6, 7, 8)).astype(np.uint8)
    return empty_scene(healthy, MM)


def test_every_disease_has_its_label_and_nothing_healthy_has_one() -> None:
    names = {value: name for name, value in CLIENT_LABELS.items()}
    carried = {material.name: names[int(LABEL_OF[material])] for material in Material if LABEL_OF[material]}
    assert carried == {
        **dict.fromkeys(("EDEMA", "LESION", "HOLE"), "edema"),
        **dict.fromkeys(("CORE", "NECROSIS", "CYST", "HAEMORRHAGE"), "necrosis"),
        "ENHANCING": "enhancing tumor",
        "CAVITY": "resection cavity",
    }


def test_disease_begins_at_edema_and_tissues_keep_their_values() -> None:
    assert FIRST_DISEASE == Material.EDEMA
    assert all(LABEL_OF[m] == 0 for m in Material if m < FIRST_DISEASE)
    assert all(LABEL_OF[m] > 0 for m in Material if m >= FIRST_DISEASE)
    assert all(Material[t.name] == t for t in Tissue if t <= Tissue.VESSEL)


def test_paint_writes_material_density_and_label(scene: Scene) -> None:
    box = (slice(1, 4), slice(2, 5), slice(0, 3))
    where = np.zeros((3, 3, 3), dtype=bool)
    where[0, 1, 2] = where[2, 2, 0] = True
    paint(scene, box, where, [Material.CYST, Material.LESION], [200, 90])
    found = [(tuple(at), scene.disease[tuple(at)], scene.density[tuple(at)], scene.labels[tuple(at)])
             for at in np.argwhere(scene.disease)]  # fmt: skip
    assert found == [((1, 3, 2), Material.CYST, 200, 1), ((3, 4, 0), Material.LESION, 90, 2)]
    paint(scene, box, where, Material.CAVITY)
    assert scene.labels.sum() == 2 * CLIENT_LABELS["resection cavity"]
    assert scene.density.sum() == 2 * FULL


def test_crop_and_mirror_are_views_of_all_maps(scene: Scene) -> None:
    paint(scene, (slice(0, 6),) * 3, np.random.default_rng(1).random((6, 6, 6)) < 0.3, Material.CORE, 77)
    box = (slice(1, 5), slice(0, 4), slice(3, 8))
    part, turned = scene.crop(box), scene.mirrored()
    for name in ("healthy", "disease", "density", "labels"):
        whole = getattr(scene, name)
        np.testing.assert_array_equal(getattr(part, name), whole[box])
        np.testing.assert_array_equal(getattr(turned, name), whole[::-1])
        assert np.shares_memory(getattr(part, name), whole)
        assert np.shares_memory(getattr(turned, name), whole)
        np.testing.assert_array_equal(getattr(turned.mirrored(), name), whole)
    assert part.spacing == turned.spacing == MM
    np.testing.assert_array_equal(part.brain, (scene.healthy != Material.AIR)[box])


def test_a_box_reaches_so_many_mm_and_is_cut_to_the_volume() -> None:
    assert box_around((10, 10, 10), 6.0, (30, 30, 30), MM) == (slice(7, 14), slice(8, 13), slice(8, 13))
    assert box_around((1, 29, 10), 6.0, (30, 30, 30), MM) == (slice(0, 5), slice(27, 30), slice(8, 13))


def test_offsets_are_distances_from_the_voxel_in_mm() -> None:
    x, y, z = offsets_mm((2, 5, 1), (slice(1, 4), slice(5, 7), slice(0, 3)), MM)
    assert [a.ravel().tolist() for a in (x, y, z)] == [[-2.0, 0.0, 2.0], [0.0, 3.0], [-4.0, 0.0, 4.0]]
    assert (x + y + z).shape == (3, 2, 3)

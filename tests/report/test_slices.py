from __future__ import annotations

import io

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS
from rarevoxel.report import Panel, best_slices, dice_line, draw_case, slices
from rarevoxel.report.slices import LABEL_COLOURS, plane, to_ras

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def a_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = np.zeros((40, 44, 36), np.float32)
    image[4:36, 4:40, 4:32] = rng.uniform(1, 2, (32, 36, 28))
    labels = np.zeros(image.shape, np.uint8)
    labels[10:20, 12:22, 10:20] = CLIENT_LABELS[EDEMA]
    labels[12:18, 14:20, 12:18] = CLIENT_LABELS[ENHANCING]
    labels[14:16, 15:18, 14:16] = CLIENT_LABELS[NECROSIS]
    return image, labels


def turned(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored along other axes."""
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    flipped = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    return nib.orientations.apply_orientation(array, change), flipped


def drawn(monkeypatch: pytest.MonkeyPatch, *args: object, **options: object) -> Figure:
    monkeypatch.setattr(slices, "to_png", lambda figure: figure)
    return draw_case(*args, **options)  # type: ignore[arg-type, return-value]


@given(codes=st.permutations("RAS"), flips=st.tuples(*[st.booleans()] * 3))
@settings(max_examples=24, deadline=None)
def test_to_ras_agrees_with_nibabel(codes: list[str], flips: tuple[bool, ...]) -> None:
    opposite = {"R": "L", "A": "P", "S": "I"}
    wanted = "".join(opposite[c] if flip else c for c, flip in zip(codes, flips, strict=True))
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    stored, affine = turned(array, AFFINE, wanted)
    ours, spacing = to_ras(stored, affine)
    theirs = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    assert np.array_equal(ours, theirs.get_fdata())
    assert spacing == pytest.approx((1.0, 2.0, 3.0))


@pytest.mark.parametrize(("view", "index"), [("axial", 5), ("coronal", 4), ("sagittal", 3)])
def test_right_anterior_superior_is_top_left(view: str, index: int) -> None:
    array = np.zeros((4, 5, 6))
    array[-1, -1, -1] = 1.0
    found = plane(array, view, index)
    assert np.argwhere(found).tolist() == [[0, 0]]


def test_planes_have_rows_up_and_columns_across() -> None:
    array = np.zeros((4, 5, 6))
    assert [plane(array, view, 0).shape for view in ("axial", "coronal", "sagittal")] == [(5, 4), (6, 4), (6, 5)]


@pytest.mark.parametrize("codes", ["LPS", "PIR", "ASL"])
def test_the_picture_does_not_depend_on_how_the_file_is_stored(codes: str) -> None:
    image, labels = a_case()
    stored, affine = turned(image, AFFINE, codes)
    same, _ = turned(labels, AFFINE, codes)
    expected = draw_case(image, AFFINE, [Panel("a", labels)])
    assert draw_case(stored, affine, [Panel("a", same)]) == expected
    assert draw_case(image, AFFINE, [Panel("a", labels[::-1])]) != expected


def test_lengths_are_true_in_mm(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = a_case()
    figure = drawn(monkeypatch, image, AFFINE, [Panel("a", labels), Panel("b", labels)], title="t", caption="c")
    assert len(figure.axes) == 6
    wide, tall = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert (box.width * wide) / (right - left) == pytest.approx((box.height * tall) / (bottom - top), rel=1e-6)
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_only_labels_that_are_there_are_drawn_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = a_case()
    edema_only = np.where(labels == CLIENT_LABELS[EDEMA], labels, 0).astype(np.uint8)
    figure = drawn(monkeypatch, image, AFFINE, [Panel("a", edema_only)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [EDEMA]
    assert drawn(monkeypatch, image, AFFINE, [Panel("a", np.zeros_like(labels))]).legends == []


def test_outlines_have_their_colours_in_the_pixels() -> None:
    image, labels = a_case()
    pixels = matplotlib.image.imread(io.BytesIO(draw_case(image, AFFINE, [Panel("a", labels)])))[..., :3]
    below = pixels[: int(0.9 * len(pixels))]
    for label in (EDEMA, ENHANCING, NECROSIS):
        colour = np.array([int(LABEL_COLOURS[label][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert np.count_nonzero(np.abs(below - colour).max(axis=-1) < 0.02) > 50, label
    empty = matplotlib.image.imread(io.BytesIO(draw_case(image, AFFINE, [Panel("a", np.zeros_like(labels))])))
    assert np.ptp(empty[..., :3], axis=-1).max() < 0.02


def test_best_slices_weigh_small_labels_like_large_ones() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:9, 1:9, 2] = CLIENT_LABELS[EDEMA]
    labels[1:9, 1:8, 7] = CLIENT_LABELS[EDEMA]
    labels[5, 5, 7] = CLIENT_LABELS[NECROSIS]
    assert best_slices([labels]) == (5, 5, 7)
    assert best_slices([np.zeros((4, 6, 8), np.uint8)]) == (2, 3, 4)


def test_the_tumour_is_in_every_panel_even_at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.ones((80, 80, 80), np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[:3, 77:, :3] = CLIENT_LABELS[ENHANCING]
    figure = drawn(monkeypatch, image, np.diag([2.0, 2.0, 2.0, 1.0]), [Panel("a", labels)])
    for axes in figure.axes:
        assert axes.get_xlim()[1] == pytest.approx(100.0)
        assert len(axes.collections) >= 2


def test_no_head_and_no_tumour_is_still_a_picture() -> None:
    empty = np.zeros((8, 8, 8), np.float32)
    assert draw_case(empty, np.eye(4), [Panel("a", empty.astype(np.uint8))])[:4] == b"\x89PNG"


def test_bad_masks_are_named() -> None:
    image, labels = a_case()
    with pytest.raises(InputError, match=r"mask 'b': shape \(39, 44, 36\), expected the image's \(40, 44, 36\)"):
        draw_case(image, AFFINE, [Panel("a", labels), Panel("b", labels[1:])])
    with pytest.raises(InputError, match="no mask to draw"):
        draw_case(image, AFFINE, [])


def test_dice_line() -> None:
    assert dice_line({"WT": 0.914, "TC": float("nan")}) == "Dice WT 0.91  TC -"

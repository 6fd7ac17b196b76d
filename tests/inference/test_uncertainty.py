"""Uncertainty by hand: where it is looked for, what it is of, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rarevoxel.inference.ensemble import together
from rarevoxel.inference.entropy import binary_entropy
from rarevoxel.inference.uncertainty import LOW, RegionUncertainty, boundary_shell, region_uncertainty

ONE_MM = (1.0, 1.0, 1.0)
SHAPE = (24, 24, 24)


def bits(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p) if 0 < p < 1 else 0.0


def alone(p: np.ndarray, mask: np.ndarray, **options: object) -> RegionUncertainty:
    """Of one sample: its own entropy is the mean entropy."""
    entropy = binary_entropy(torch.from_numpy(p)).numpy()
    return region_uncertainty("ET", p, entropy, mask, ONE_MM, **options)  # type: ignore[arg-type]


def blob(value: float, at: int = 4, size: int = 3) -> np.ndarray:
    p = np.zeros(SHAPE, np.float32)
    p[at : at + size, at : at + size, at : at + size] = value
    return p


def test_entropy_in_bits() -> None:
    found = binary_entropy(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]))
    expected = [0.0, bits(0.1), 1.0, bits(0.1), 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_shell_reaches_two_millimetres_to_either_side() -> None:
    mask = np.zeros((15, 15, 15), bool)
    mask[5:10, 5:10, 5:10] = True
    line = boundary_shell(mask, ONE_MM)[:, 7, 7]
    assert np.flatnonzero(line).tolist() == [3, 4, 5, 6, 8, 9, 10, 11]
    line = boundary_shell(mask, (4.0, 4.0, 4.0))[:, 7, 7]
    assert np.flatnonzero(line).tolist() == [4, 5, 9, 10], "a coarse grid has neighbours all the same"
    line = boundary_shell(mask, (0.5, 1.0, 1.0), width=1.0)[:, 7, 7]
    assert np.flatnonzero(line).tolist() == [3, 4, 5, 6, 8, 9, 10, 11]
    for everything in (True, False):
        assert not boundary_shell(np.full(SHAPE, everything), ONE_MM).any()


def test_a_faint_small_blob_is_a_candidate_with_its_expected_volume() -> None:
    p = blob(0.3)
    found = alone(p, np.zeros(SHAPE, bool))
    (candidate,) = found.candidates
    assert candidate.region == "ET"
    assert not candidate.marked
    assert candidate.volume == 27.0
    assert candidate.expected == pytest.approx(27 * 0.3, abs=1e-3)
    assert candidate.probability == pytest.approx(0.3, abs=1e-4), "the cube of 3 mm fits in"
    assert candidate.entropy == pytest.approx(bits(0.3), abs=1e-4)
    assert found.missed_ml == pytest.approx(27 * 0.3 / 1000, abs=1e-6)
    assert found.entropy == pytest.approx(bits(0.3), abs=1e-5)
    assert found.mutual_information == pytest.approx(0, abs=1e-6)


def test_voxel_size_is_part_of_volumes() -> None:
    p = blob(0.5)
    entropy = binary_entropy(torch.from_numpy(p)).numpy()
    found = region_uncertainty("WT", p, entropy, np.zeros(SHAPE, bool), (2.0, 1.0, 3.0))
    assert found.candidates[0].volume == 27 * 6
    assert found.missed_ml == pytest.approx(27 * 6 * 0.5 / 1000)


def test_corners_connect_small_ones_go_and_the_largest_come_first() -> None:
    p = blob(0.2)
    p[7:9, 7:9, 7:9] = 0.9  # Touches the first by a corner.
    p[15, 15, 15:19] = 0.9  # 4 mm^3.
    p[19:22, 19:22, 3:6] = 0.15
    found = alone(p, np.zeros(SHAPE, bool))
    assert [c.volume for c in found.candidates] == [35.0, 27.0]
    assert found.candidates[0].expected == pytest.approx(27 * 0.2 + 8 * 0.9, abs=1e-3)
    assert [c.volume for c in alone(p, np.zeros(SHAPE, bool), smallest_mm3=4).candidates] == [35.0, 27.0, 4.0]
    assert [c.volume for c in alone(p, np.zeros(SHAPE, bool), most=1).candidates] == [35.0]
    assert alone(blob(LOW - 0.01), np.zeros(SHAPE, bool)) == RegionUncertainty()


def test_what_is_marked_is_not_missed_and_its_sure_inside_does_not_count() -> None:
    p = blob(1.0, 6, 12)
    p[6, 6:18, 6:18] = 0.4
    found = alone(p, p > 0.5)
    (candidate,) = found.candidates
    assert candidate.marked
    assert found.missed_ml == pytest.approx(144 * 0.4 / 1000, abs=1e-6)
    mask = p > 0.5
    expected = binary_entropy(torch.from_numpy(p)).numpy()[boundary_shell(mask, ONE_MM) | ((p >= LOW) & (p <= 0.9))]
    assert found.entropy == pytest.approx(expected.mean(), abs=1e-5)
    larger = np.zeros((24, 24, 48), np.float32)
    larger[:, :, :24] = p
    larger[6:18, 6:18, 18:42] = 1.0
    larger[6, 6:18, 6:42] = 0.4
    assert alone(larger, larger > 0.5).entropy > 0.9 * found.entropy, "three times as large, not less unsure"


def test_the_background_far_away_changes_nothing() -> None:
    p = blob(0.6, 8, 6)
    p[7, 8:14, 8:14] = 0.3
    before = alone(p, p > 0.5)
    beyond = np.pad(p, ((0, 20), (11, 3), (0, 7)))
    beyond[40:, :4] = LOW - 0.02
    assert alone(beyond, beyond > 0.5) == before


def test_an_all_sure_mask_is_sure() -> None:
    p = blob(1.0, 8, 6)
    found = alone(p, p > 0.5)
    assert (found.entropy, found.mutual_information, found.missed_ml) == (0.0, 0.0, 0.0)
    assert found.candidates[0].probability == 1.0


def test_two_samples_by_hand() -> None:
    first, second = blob(0.9), blob(0.1)
    mean, entropy, count = together([torch.from_numpy(first), torch.from_numpy(second)])
    assert count == 2
    found = region_uncertainty("ET", mean.numpy(), entropy.numpy(), np.zeros(SHAPE, bool), ONE_MM)
    assert found.entropy == pytest.approx(1.0, abs=1e-5)
    assert found.mutual_information == pytest.approx(1 - bits(0.1), abs=1e-5)


probabilities = arrays(np.float32, (3, 5, 6, 7), elements=st.floats(0, 1, width=32))


@settings(max_examples=30, deadline=None)
@given(drawn=probabilities)
def test_mutual_information_is_between_zero_and_the_entropy_and_zero_for_equal_samples(drawn: np.ndarray) -> None:
    def measured(samples: np.ndarray) -> RegionUncertainty:
        mean, entropy, _ = together([torch.from_numpy(one) for one in samples])
        p = mean.numpy()
        return region_uncertainty("WT", p, entropy.numpy(), p >= 0.5, (2.0, 2.0, 2.0))

    found = measured(drawn)
    assert 0 <= found.mutual_information <= found.entropy + 1e-6 <= 1 + 2e-6
    assert measured(np.repeat(drawn[:1], 4, axis=0)).mutual_information == pytest.approx(0, abs=2e-6)
    assert sum(c.expected for c in found.candidates) <= drawn.mean(0).sum() * 8 + 0.1

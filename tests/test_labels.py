"""Label values: by declared scheme and by segment name, never by trust."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarevoxel.errors import LabelError
from rarevoxel.labels import (
    CLIENT_LABELS,
    CLIENT_SCHEME,
    SCHEMES,
    LabelScheme,
    canonical_name,
    get_scheme,
    labels_to_regions,
    regions_to_labels,
    remap_by_label_info,
)

TUMOUR = hnp.arrays(np.uint8, (3, 4, 2), elements=st.integers(0, 3))


def test_values_of_the_schemes_by_hand() -> None:
    on_disk = np.array([0, 1, 2, 4])
    assert SCHEMES["brats2020"].to_client(on_disk).tolist() == [0, 1, 2, 3]
    assert SCHEMES["msd"].to_client(np.array([0, 1, 2, 3])).tolist() == [0, 2, 1, 3]
    assert SCHEMES["brats2024"].to_client(on_disk).tolist() == [0, 1, 2, 4]
    assert SCHEMES["brats2023"].to_client(np.array([0.0, 3.0])).tolist() == [0, 3]
    assert SCHEMES["lesion"].to_client(np.array([0, 1])).tolist() == [0, 2]


@given(scheme=st.sampled_from([*SCHEMES.values(), CLIENT_SCHEME]), data=st.data())
def test_there_and_back_changes_nothing(scheme: LabelScheme, data: st.DataObject) -> None:
    values = [0, *scheme.values.values()]
    on_disk = data.draw(hnp.arrays(np.int16, (2, 3, 4), elements=st.sampled_from(values)))
    client = scheme.to_client(on_disk)
    assert client.dtype == np.uint8
    assert set(np.unique(client)) <= {0, *(CLIENT_LABELS[name] for name in scheme.labels)}
    np.testing.assert_array_equal(scheme.from_client(client), on_disk)


def test_foreign_values_are_named_with_a_scheme_that_fits() -> None:
    labels = np.array([[[0, 1, 2, 4, 4]]])
    with pytest.raises(
        LabelError, match=r"seg\.nii: label value 4 \(2 voxels\) is not in scheme 'brats2023'"
    ) as caught:
        SCHEMES["brats2023"].to_client(labels, "seg.nii")
    assert "brats2020" in caught.value.hint
    with pytest.raises(LabelError, match=r"label value 0.5 \(1 voxels\)"):
        SCHEMES["brats2023"].check(np.array([0, 0.5]))
    with pytest.raises(LabelError, match=r"label value -1"):
        SCHEMES["brats2023"].check(np.array([-1, 1]))


def test_a_label_without_a_value_on_disk_cannot_be_written() -> None:
    with pytest.raises(LabelError, match=r"label \['resection cavity'\] cannot be written in scheme 'brats2020'"):
        SCHEMES["brats2020"].from_client(np.array([1, 4]))
    with pytest.raises(LabelError, match=r"label value 9 \(1 voxels\) is not in scheme 'client'"):
        SCHEMES["brats2020"].from_client(np.array([9]))


def test_schemes_that_make_no_sense() -> None:
    with pytest.raises(LabelError, match=r"'own': unknown label name 'tumour'"):
        LabelScheme("own", {"tumour": 1})
    with pytest.raises(LabelError, match=r"value of 'edema' \(0\) must be >= 1"):
        LabelScheme("own", {"edema": 0})
    with pytest.raises(LabelError, match="must differ from each other"):
        LabelScheme("own", {"edema": 1, "necrosis": 1})
    with pytest.raises(LabelError, match=r"unknown label scheme 'brats', expected one of \['brats2020'"):
        get_scheme("brats")
    assert get_scheme("client") is CLIENT_SCHEME


def test_names_and_synonyms() -> None:
    assert canonical_name(" Edema ") == "edema"
    assert canonical_name("Oedema") == "edema"
    assert canonical_name("NETC") == "necrosis"
    assert canonical_name("liver") is None


def info(*names: str, start: int = 1) -> list[dict[str, object]]:
    return [{"name": name, "idx": index} for index, name in enumerate(names, start)]


def test_segments_in_our_order_keep_their_values() -> None:
    labels = np.array([0, 1, 2, 3])
    names = info("necrosis", "edema", "enhancing tumor")
    assert remap_by_label_info(labels, names).tolist() == [0, 1, 2, 3]


def test_reordered_segments_follow_their_names() -> None:
    labels = np.array([0, 1, 2, 3])
    names = info("enhancing tumor", "necrosis", "edema")
    assert remap_by_label_info(labels, names).tolist() == [0, 3, 1, 2]


def test_a_deleted_segment_shifts_the_others() -> None:
    assert remap_by_label_info(np.array([0, 1, 2]), info("edema", "enhancing tumor")).tolist() == [0, 2, 3]


def test_idx_may_count_background_while_voxels_are_ranks() -> None:
    names = info("background", "edema", "enhancing tumor")
    assert remap_by_label_info(np.array([0, 1, 2]), names).tolist() == [0, 2, 3]


def test_idx_counts_when_values_are_no_ranks() -> None:
    names = [{"name": "edema", "idx": 2}, {"name": "enhancing tumor", "idx": 7}]
    assert remap_by_label_info(np.array([0, 2, 7]), names).tolist() == [0, 2, 3]


def test_scribbles_are_no_segments() -> None:
    names = info("background_scribbles", "foreground_scribbles", "necrosis")
    assert remap_by_label_info(np.array([0, 1]), names).tolist() == [0, 1]


def test_an_unknown_name_matters_only_where_it_has_voxels() -> None:
    names = info("necrosis", "Segment_1")
    assert remap_by_label_info(np.array([0, 1]), names).tolist() == [0, 1]
    with pytest.raises(LabelError, match=r"case-7: segment 'Segment_1' \(value 2\) is unknown"):
        remap_by_label_info(np.array([0, 1, 2]), names, "case-7")


def test_a_value_without_a_segment() -> None:
    with pytest.raises(LabelError, match=r"label value \[5\] has no segment in label_info"):
        remap_by_label_info(np.array([0, 5]), info("necrosis", "edema"))
    with pytest.raises(LabelError, match=r"label value \[1\] has no segment"):
        remap_by_label_info(np.array([0, 1]), [])


@given(labels=TUMOUR, order=st.permutations(["necrosis", "edema", "enhancing tumor"]))
def test_any_order_of_segments_comes_back_as_our_values(labels: np.ndarray, order: list[str]) -> None:
    ours = {CLIENT_LABELS[name]: rank for rank, name in enumerate(order, 1)}
    sent = np.vectorize(lambda value: ours.get(value, 0), otypes=[np.uint8])(labels)
    np.testing.assert_array_equal(remap_by_label_info(sent, info(*order)), labels)


@given(labels=TUMOUR)
def test_regions_and_labels_are_one_thing_told_twice(labels: np.ndarray) -> None:
    regions = labels_to_regions(labels)
    whole, core, enhancing = regions
    np.testing.assert_array_equal(whole, labels > 0)
    assert not (core & ~whole).any()
    assert not (enhancing & ~core).any()
    np.testing.assert_array_equal(regions_to_labels(regions), labels)


def test_a_cavity_is_no_tumour() -> None:
    assert not labels_to_regions(np.array([4])).any()


def test_of_masks_that_are_not_nested_the_innermost_wins() -> None:
    whole, core, enhancing = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 1, 0]], dtype=bool)
    assert regions_to_labels(np.stack([whole, core, enhancing])).tolist() == [2, 1, 3, 3, 0]
    assert labels_to_regions(np.array([1, 2, 3]), ("ET",)).tolist() == [[False, False, True]]

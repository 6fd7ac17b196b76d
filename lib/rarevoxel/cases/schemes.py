"""Which label scheme a data set uses: from its name where that settles it, else from the values really there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from rarevoxel.cases.model import Case, Refusal
from rarevoxel.errors import LabelError, RareVoxelError
from rarevoxel.labels import SCHEMES, LabelScheme, value_counts
from rarevoxel.volumes import read_labels

_BY_NAME = {"brats2020": "brats2020", "dataset": "msd"}
_WHEN_EMPTY = "brats2023"


def detect_scheme(values: Iterable[int], layout: str) -> LabelScheme:
    """Return the scheme that label values and layout point at.

    Data named as BraTS until 2022 are `brats2020` and those with a `dataset.json` are `msd`, whatever their values.
    Else 3 and 4 together mean `brats2024`, 4 alone `brats2020`, 3 alone `brats2023`; in a plain folder 1 alone means
    `lesion`. Values 1 and 2 mean the same in every BraTS scheme, so `brats2023` serves for what is left.

    Args:
        values: the values of one label map, or of all of a set; 0 is ignored.
        layout: as `Case.layout`.

    Returns:
        The scheme.

    Raises:
        LabelError: if the values fit no scheme.
    """
    if layout in _BY_NAME:
        return SCHEMES[_BY_NAME[layout]]
    present = {int(value) for value in values} - {0}
    if not present <= {1, 2, 3, 4}:
        msg = f"label values {sorted(present)} fit no known scheme, expected values among 0, 1, 2, 3, 4"
        raise LabelError(msg, f"correct the labels; known schemes: {', '.join(SCHEMES)}")
    if 4 in present:
        return SCHEMES["brats2024" if 3 in present else "brats2020"]
    if layout == "plain" and present == {1}:
        return SCHEMES["lesion"]
    return SCHEMES["brats2023"]


def label_values(path: Path) -> set[int]:
    """Return the values that occur in a label map.

    Raises:
        InputError: if it cannot be read.
        GeometryError: if its affine describes no grid.
    """
    return {int(value) for value in value_counts(read_labels(path))}


def assign_schemes(
    cases: Sequence[Case],
    *,
    scheme: LabelScheme | None = None,
    progress: bool = False,
    values_of: Callable[[Path], set[int]] = label_values,
) -> tuple[list[Case], list[Refusal]]:
    """Give every labelled case its scheme, reading label maps only where names do not settle it.

    Cases named as BraTS since 2023 are decided together, because one of them need not show every value (a
    post-treatment case with a cavity and no enhancing tumour looks like 2020); plain cases are decided one by one,
    because such a folder may mix data sets. An empty label map takes the commonest scheme of its folder.

    Args:
        cases: from `scan`; those with a scheme keep it unless `scheme` is given.
        scheme: overrides everything; it is checked when the label map is converted.
        progress: show a bar on stderr when that is a terminal.
        values_of: how to find the values of a label map, for a caller that remembers them.

    Returns:
        The cases with their schemes (and warnings about what was assumed), and those whose label cannot be used.
    """
    if scheme is not None:
        return [replace(case, scheme=scheme if case.label else None) for case in cases], []
    open_cases = [case for case in cases if case.label is not None and case.scheme is None]
    read = [case for case in open_cases if case.layout not in _BY_NAME]
    with ThreadPoolExecutor(2) as pool:
        looked = pool.map(lambda case: _values(case, values_of), read)
        bar = tqdm(looked, total=len(read), desc="labels", disable=None if progress else True)
        found = dict(zip((case.id for case in read), bar, strict=True))
    values = {case: set() if isinstance(v, RareVoxelError) else v for case, v in found.items()}
    shared = set().union(*(values[c.id] for c in read if c.layout == "brats" and values[c.id] <= {0, 1, 2, 3, 4}))
    decided: dict[str, Case | Refusal] = {}
    for case in open_cases:
        problem = found.get(case.id)
        if isinstance(problem, RareVoxelError):
            decided[case.id] = Refusal(case.id, problem)
        elif case.layout == "plain" and not values[case.id] - {0}:
            continue
        else:
            decided[case.id] = _decide(case, shared if case.layout == "brats" else values.get(case.id, set()))
    common = Counter(c.scheme.name for c in decided.values() if isinstance(c, Case) and c.scheme)
    fallback = SCHEMES[common.most_common(1)[0][0] if common else _WHEN_EMPTY]
    for case in open_cases:
        decided.setdefault(case.id, replace(case, scheme=fallback))
    results = [decided.get(case.id, case) for case in cases]
    return [c for c in results if isinstance(c, Case)], [r for r in results if isinstance(r, Refusal)]


def _decide(case: Case, values: set[int]) -> Case | Refusal:
    try:
        scheme = detect_scheme(values, case.layout)
    except LabelError as error:
        return Refusal(case.id, LabelError(f"{case.label}: {error.message}", error.hint))
    warning = ""
    if scheme.name == "lesion":
        warning = f"case {case.id}: its label map has only the value 1; taken as one class of lesion, carried as edema"
    elif scheme.name == "brats2020" and case.layout == "brats":
        warning = f"case {case.id}: 4 without 3 among the set's labels; taken as enhancing tumor, not as a cavity"
    if warning:
        other = "brats2023" if scheme.name == "lesion" else "brats2024"
        warning += f" (say --scheme {other} if that is wrong)"
    return replace(case, scheme=scheme, warnings=(*case.warnings, *([warning] if warning else [])))


def _values(case: Case, values_of: Callable[[Path], set[int]]) -> set[int] | RareVoxelError:
    try:
        return values_of(case.label) if case.label else set()
    except RareVoxelError as error:
        return error

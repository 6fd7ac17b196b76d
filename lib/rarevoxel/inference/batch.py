"""One mask per case of a list, written beside a record of what it was made from, so that a run can go on where it was.

Beside `CASE.nii.gz` lies `CASE.json`. A mask is made anew when the weights, the settings or the input files are others
than its record says. A mask without a record, or one that was changed since, is somebody's work and stays.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rarevoxel.cases import Case
from rarevoxel.errors import InputError, RareVoxelError
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.serving import Prepared
from rarevoxel.volumes import file_sha256, replace_file, write_labels

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the record's layout."""

DONE, KEPT, REFUSED = "done", "kept", "refused"
"""What became of a case: a new mask, the mask that was there, none."""

_SETTINGS = ("window", "overlap", "threshold", "mirror", "smallest_mm3", "single_pass")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: its id.
        state: `DONE`, `KEPT` or `REFUSED`.
        mask: its file, where there is one.
        answer: `Prediction.to_dict()` of the mask, of the run that made it; empty when that is not known.
        reason: why it was refused, or kept without a record.
    """

    case: str
    state: str
    mask: Path
    answer: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def infer_cases(engine: Engine, cases: Sequence[Case], out: Path, *, force: bool = False) -> Iterator[Outcome]:
    """Yield what becomes of every case, in their order; the next one is read while the network is busy.

    Masks and records are each written whole or not at all, the mask first. One case that fails does not end the run.

    Args:
        engine: predicts.
        cases: to segment.
        out: folder for the masks; made when absent.
        force: make every mask anew.

    Raises:
        ModelError: when there are no usable weights.
        OSError: when a mask cannot be written.
    """
    model = str(engine.model()["sha256"])
    out.mkdir(parents=True, exist_ok=True)
    known = {} if force else {case.id: _known(engine, model, case, out) for case in cases}
    ahead = _read_ahead(engine, [case for case in cases if known.get(case.id) is None])
    for case in cases:
        there = known.get(case.id)
        yield there if there is not None else _make(engine, case, out, next(ahead))


@dataclass(frozen=True)
class _Read:
    prepared: Prepared
    inputs: dict[str, Any]


def _read_ahead(engine: Engine, cases: Sequence[Case]) -> Iterator[Future[_Read]]:
    """Yield every case when it is read, while a thread reads the one after it."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        ahead = [pool.submit(_read, engine, case) for case in cases[:1]]
        for following in range(1, len(cases) + 1):
            current = ahead.pop()
            wait([current])
            ahead += [pool.submit(_read, engine, case) for case in cases[following : following + 1]]
            yield current


def _read(engine: Engine, case: Case) -> _Read:
    if case.volume_4d is not None:
        msg = f"case {case.id}: {case.volume_4d} is one 4-D file with the channels {list(case.channels)}"
        raise InputError(msg, "split it into sequences first: rarevoxel prepare SOURCE STUDIES")
    inputs = _inputs(case)
    return _Read(engine.prepare(case.sequences), inputs)


def _make(engine: Engine, case: Case, out: Path, reading: Future[_Read]) -> Outcome:
    mask = _mask_of(case, out)
    try:
        read = reading.result()
        prediction = engine.predict_prepared(read.prepared)
    except RareVoxelError as error:
        if error.code == "model":
            raise
        return Outcome(case.id, REFUSED, mask, reason=str(error))
    except Exception as error:  # Whatever it is, the cases after this one are not to blame.
        logger.exception("case %s failed", case.id)
        return Outcome(case.id, REFUSED, mask, reason=f"{type(error).__name__}: {error}")
    write_labels(mask, prediction.labels, prediction.affine)
    answer = prediction.to_dict()
    made_from = _made_from(engine, str(prediction.model["sha256"]), read.inputs)
    record = {"format": FORMAT, "case": case.id, "mask": file_sha256(mask), "made_from": made_from, "answer": answer}
    replace_file(_record_of(mask), json.dumps(record, indent=1, default=str).encode())
    return Outcome(case.id, DONE, mask, answer)


def _known(engine: Engine, model: str, case: Case, out: Path) -> Outcome | None:
    """The mask that is there and may stay; None when one has to be made."""
    mask = _mask_of(case, out)
    if not mask.exists():
        return None
    try:
        record = json.loads(_record_of(mask).read_text(encoding="utf-8"))
        made_from, answer, sha256 = record["made_from"], dict(record["answer"]), record["mask"]
    except (OSError, ValueError, KeyError, TypeError):
        return Outcome(case.id, KEPT, mask, reason="there is no record of what it was made from")
    if sha256 != file_sha256(mask):
        return Outcome(case.id, KEPT, mask, reason="it was changed after it was made")
    if made_from != _made_from(engine, model, _inputs(case)):
        return None
    return Outcome(case.id, KEPT, mask, answer)


def _made_from(engine: Engine, model: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What decides about a mask, as JSON gives it back."""
    settings = asdict(engine.config.inference)
    chosen = {name: settings[name] for name in _SETTINGS}
    content: dict[str, Any] = json.loads(json.dumps({"model": model, "inputs": inputs, "settings": chosen}))
    return content


def _inputs(case: Case) -> dict[str, Any]:
    """Name and state of every file; None for one that is not there."""
    return {name: _state(file) for name, file in case.sequences.items()}


def _state(file: Path) -> dict[str, Any] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return {"file": file.name, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _mask_of(case: Case, out: Path) -> Path:
    return out / f"{case.id}.nii.gz"


def _record_of(mask: Path) -> Path:
    return mask.with_name(mask.name.removesuffix(".nii.gz") + ".json")

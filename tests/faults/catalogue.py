"""The faults that must hold: number, what goes wrong, and what the service does about it."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One row of the table."""

    what: str
    expected: str


FAULTS: dict[int, Fault] = {
    1: Fault("infer: unknown image id", "404"),
    2: Fault("infer: unknown model", "404"),
    3: Fault("params not JSON, a JSON list, 1 MB of nesting", "400"),
    4: Fault("image=/abs/path, ../.., params.image", "400, nothing read"),
    5: Fault("params with host keys (model, bundle_path, device ...)", "400, lists the allowed keys"),
    6: Fault("image corrupt, truncated, 0 bytes, text, LFS pointer", "422, names the file"),
    7: Fault("2-D image", "422"),
    8: Fault("4-D image, wrong number of channels", "422; a trailing singleton is fine"),
    9: Fault("a sequence is missing", "200, names it and warns; 422 when its file is lost, or all are"),
    10: Fault("sequences on different grids", "422, both geometries"),
    11: Fault("NaN or Inf voxels", "422, the count"),
    12: Fault("constant or all-zero image", "422"),
    13: Fault("affine singular, NaN, sheared; sform is not qform", "422"),
    14: Fault("image smaller than a patch", "200, same shape"),
    15: Fault("LPS, RAS, LAS, permuted copies of a case", "same mask in the world, Dice >= 0.99"),
    16: Fault("spacing 5.5 mm, 0.3 mm, anisotropic", "200, the image's own grid"),
    17: Fault("int16 scaled, uint8, float64, big-endian, .nii", "identical mask"),
    18: Fault("label is garbage, 0 bytes, truncated", "422, old label byte-identical"),
    19: Fault("label of the wrong shape", "422, both shapes"),
    20: Fault("label affine off by a flip or 3 mm; by 1e-5", "422; 200"),
    21: Fault("label value outside the scheme, 0.5, NaN, ET as 4", "422; mapped by a declared scheme"),
    22: Fault("all-zero label", "422 with the hint; 200 when declared"),
    23: Fault(".seg.nrrd, one-hot 4-D label", "converted or 422"),
    24: Fault("label for an unknown or deleted image", "404"),
    25: Fault("tag or id with ../, absolute, NUL, 300 characters", "400"),
    26: Fault("label file called x.exe, ../../x, no suffix", "422, or the name is ignored"),
    27: Fault("the same label twice; If-Match of an old version", "idempotent; 409, both kept"),
    28: Fault("replacing an image that has labels", "409 unless forced, old kept"),
    29: Fault("upload over the limit, gzip bomb, zip bomb", "413/422, bounded memory and disk"),
    30: Fault("client hangs up halfway, slow client", "old label intact, nothing left"),
    31: Fault("kill -9 during label saves", "starts; acknowledged labels whole"),
    32: Fault("disk full while saving", "507, old files intact, recovers"),
    33: Fault("index empty, torn, wrong schema, newer", "starts, recovers, keeps the torn copy"),
    34: Fault("two servers on one folder", "the second exits and says why"),
    35: Fault("studies read-only, or vanishing", "503; /info/ alive"),
    36: Fault("kill -9 of a training; SIGTERM while training", "old model served, no orphan, resumes"),
    37: Fault("published model torn, foreign, or a malicious pickle", "previous model kept, nothing executed"),
    38: Fault("train_stats.json torn", "/info/ 200 with a warning"),
    39: Fault("train with too few, empty or broken labels", "409; skipped and reported; never NaN"),
    40: Fault("second train; unknown model; impossible max_epochs", "429; 404; 422"),
    41: Fault("retraining gets worse on the hold-out", "not published, reason in the stats"),
    42: Fault("no, wrong, expired token; foreign Origin or Host", "401/403"),
    43: Fault("patient-like data in file names", "logs and replies carry ids only"),
}

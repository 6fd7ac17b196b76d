"""The error family: every error a user can cause says what was found, where, what was expected and what to do."""

from __future__ import annotations

import errno


class RareVoxelError(Exception):
    """Base of all errors this package raises on purpose.

    Args:
        message: what was found, where, and what was expected, in one sentence.
        hint: what the user can do about it.

    Attributes:
        code: short machine-readable name, stable across releases.
        status: the HTTP status a server answers with when this error ends a request.
        findings: what checks found, as plain data (`rarevoxel.learning.quality.Finding.to_dict`); mostly none.
    """

    code = "error"
    status = 500
    findings: tuple[dict[str, object], ...] = ()

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_dict(self) -> dict[str, object]:
        """Return the JSON body a client sees: code, message, hint, and findings where there are any."""
        found = {"findings": list(self.findings)} if self.findings else {}
        return {"code": self.code, "message": self.message, "hint": self.hint, **found}

    def __reduce__(self) -> tuple[type[RareVoxelError], tuple[object, ...]]:
        return type(self), (self.message, self.hint)


class InputError(RareVoxelError, ValueError):
    """An image, folder or value that cannot be used as it is."""

    code = "invalid_input"
    status = 422


class GeometryError(InputError):
    """Volumes that should lie on one grid do not, or an affine that describes no grid."""

    code = "geometry"


class LabelError(InputError):
    """A label map whose values or names are outside the declared scheme."""

    code = "invalid_label"


class RejectedLabelError(LabelError):
    """A label that the checks refuse; it is kept aside.

    Args:
        message: see `RareVoxelError`.
        hint: see `RareVoxelError`.
        findings: what the checks found, as plain data (`rarevoxel.learning.quality.Finding.to_dict`).
    """

    def __init__(self, message: str, hint: str = "", findings: tuple[dict[str, object], ...] = ()) -> None:
        super().__init__(message, hint)
        self.findings = findings

    def to_dict(self) -> dict[str, object]:
        """Return the JSON body a client sees, the findings among it."""
        return {**super().to_dict(), "findings": list(self.findings)}

    def __reduce__(self) -> tuple[type[RareVoxelError], tuple[object, ...]]:
        return type(self), (self.message, self.hint, self.findings)


class MalformedError(RareVoxelError, ValueError):
    """A request that cannot be understood: no JSON, a forbidden name, an unknown parameter."""

    code = "malformed"
    status = 400


class RequestError(RareVoxelError, ValueError):
    """A request parameter that is unknown or has an impossible value."""

    code = "invalid_request"
    status = 422


class NotFoundError(RareVoxelError, LookupError):
    """A case, model, strategy or file that does not exist."""

    code = "not_found"
    status = 404


class ConflictError(RareVoxelError):
    """A request that is fine in itself but not in the present state (no labels yet, one running)."""

    code = "conflict"
    status = 409


class BusyError(ConflictError):
    """A request that has to wait until something else is done."""

    code = "busy"
    status = 429


class TooLargeError(RareVoxelError):
    """More bytes than the server takes, sent or promised by a header."""

    code = "too_large"
    status = 413


class UnauthorizedError(RareVoxelError):
    """No token, or one that is unknown, revoked or expired."""

    code = "unauthorized"
    status = 401


class ForbiddenError(RareVoxelError):
    """A token whose role does not allow it, a foreign Origin or Host, or something that is never allowed."""

    code = "forbidden"
    status = 403


class StorageError(RareVoxelError):
    """The disk is full or a quota is reached; what was there before is intact."""

    code = "storage"
    status = 507


class UnavailableError(RareVoxelError):
    """Something the server needs is not there at the moment: a folder that is read-only or has vanished."""

    code = "unavailable"
    status = 503


class ModelError(RareVoxelError, RuntimeError):
    """Weights that are missing, torn, or made for another network."""

    code = "model"
    status = 503


class ConfigError(RareVoxelError, ValueError):
    """A configuration file or option with a missing, unknown or impossible entry."""

    code = "config"


class TrainingError(RareVoxelError, RuntimeError):
    """A run that cannot go on, for example because the loss is no longer a number."""

    code = "training"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def storage_error(error: OSError, what: str) -> RareVoxelError:
    """Return what a failed write or read means to a user.

    Args:
        error: as the operating system raised it.
        what: what was being done, for example `saving the label of case x`; no path.
    """
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return StorageError(f"{what}: {reason}; nothing was changed", "free disk space or raise the quota, try again")
    return UnavailableError(f"{what}: {reason}", "check that the studies folder is mounted and can be written")

"""The error family: every error a user can cause says what was found, where, what was expected and what to do."""

from __future__ import annotations


class RareVoxelError(Exception):
    """Base of all errors this package raises on purpose.

    Args:
        message: what was found, where, and what was expected, in one sentence.
        hint: what the user can do about it.

    Attributes:
        code: short machine-readable name, stable across releases.
        status: the HTTP status a server answers with when this error ends a request.
    """

    code = "error"
    status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_dict(self) -> dict[str, str]:
        """Return the JSON body a client sees: code, message and hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def __reduce__(self) -> tuple[type[RareVoxelError], tuple[str, str]]:
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

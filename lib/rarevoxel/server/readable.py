"""Which images a request may name: cases, uploads and sessions, never a path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.utils.sessions import Sessions

from rarevoxel.errors import NotFoundError, RequestError


def check_image(request: Mapping[str, Any], datastore: Datastore, sessions: Sessions | None) -> None:
    """Raise unless the image of a request is a case of the datastore, an upload, or in a session.

    Args:
        request: of an inference; `image` is a case id, or a path that the server itself has put there.
        datastore: the cases.
        sessions: where uploaded cases lie; None when there are no sessions.

    Raises:
        RequestError: when no image is named.
        NotFoundError: for anything else.
    """
    image = request.get("image")
    if not isinstance(image, str) or not image:
        raise RequestError(f"image is {image!r}, expected a case id", "name a case, or upload a file")
    if datastore.get_image_uri(image):
        return
    path = Path(image).resolve()
    uploaded = Path(image).is_absolute() and path.parent == Path(tempfile.gettempdir()).resolve() and path.is_file()
    session = sessions is not None and Path(sessions.store_path).resolve() in path.parents and path.exists()
    if not uploaded and not session:
        raise NotFoundError(f"no case {image[:80]!r} in this datastore", "GET /datastore/?output=all lists the cases")

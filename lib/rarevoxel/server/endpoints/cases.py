"""Images and labels of the studies folder: submitted, fetched, described, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks, File, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse
from monailabel.endpoints import datastore as host_datastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from rarevoxel.errors import ConflictError, NotFoundError
from rarevoxel.server.endpoints.context import told, user_of
from rarevoxel.server.guard.params import COMMON, IMAGE, LABEL, check_info, check_keys, parse_object
from rarevoxel.server.guard.uploads import IMAGE_VOXELS, LABEL_VOXELS, stored
from rarevoxel.volumes import file_sha256

router = APIRouter(prefix="/datastore", tags=["Datastore"])


@router.put("/label", summary="Submit a label; 200 means checked, on disk, the earlier version kept")
def save_label(
    request: Request,
    response: Response,
    image: str,
    params: str = Form("{}"),
    tag: str = "",
    label: UploadFile = File(...),
) -> Any:
    """Check and keep a label; the header `If-Match` names the version the client started from."""
    values = parse_object(params)
    check_keys(values, (*COMMON, *LABEL))
    if request.headers.get("if-match"):
        values["if_match"] = request.headers["if-match"]
    if user_of(request):
        values["user"] = user_of(request)
    with stored(label.file, label.filename or "", LABEL_VOXELS, f"label of case {image}") as path:
        instance = app_instance()
        label_id = instance.datastore().save_label(image, str(path), tag or DefaultLabelTag.FINAL.value, values)
        receipt = instance.on_save_label(image, label_id) or {}
    if receipt.get("sha256"):
        response.headers["ETag"] = f'"{receipt["sha256"]}"'
    return {**receipt, "image": image, "label": label_id}


@router.get("/label", summary="Download a label; its ETag is what If-Match takes")
def download_label(label: str, tag: str) -> Any:
    """Send the file of a label."""
    path = _file("label", app_instance().datastore().get_label_uri(label, tag))
    headers = {"ETag": f'"{file_sha256(path)}"'}
    return FileResponse(path, media_type="application/octet-stream", filename=path.name, headers=headers)


@router.get("/label/versions", summary="See every version of a label: who, when, why, and what the checks noticed")
def label_versions(label: str, tag: str) -> Any:
    """Return the records, oldest first."""
    return {"versions": app_instance().datastore().versions(label, tag)}


@router.post("/label/restore", summary="Make an earlier version of a label the newest; none is lost")
def restore_label(request: Request, response: Response, label: str, tag: str, version: int) -> Any:
    """Restore and return the receipt, as for a label that is submitted."""
    datastore = app_instance().datastore()
    datastore.restore_label(label, tag, version, user=user_of(request) or "unknown")
    receipt = datastore.receipt(label)
    response.headers["ETag"] = f'"{receipt["sha256"]}"'
    return receipt


@router.head("/label", summary="Check if a label exists")
def check_label(tag: str, image: str = "", label: str = "") -> Any:
    """Say with a status whether there is a label."""
    _file("label", app_instance().datastore().get_label_uri(label or image, tag))
    return {}


@router.put("/image", summary="Add a case from a volume that holds its sequences")
@router.put("/", include_in_schema=False)
def add_image(request: Request, image: str, params: str = Form("{}"), file: UploadFile = File(...)) -> Any:
    """Add an image under the name given; the name of the file, which may be a patient's, is not kept."""
    values = parse_object(params)
    check_keys(values, (*COMMON, *IMAGE))
    if user_of(request):
        values["user"] = user_of(request)
    with stored(file.file, file.filename or "", IMAGE_VOXELS, f"image of case {image}") as path:
        return {"image": app_instance().datastore().add_image(image, str(path), values)}


@router.delete("/image", summary="Take a case out; its image and labels stay in the history")
@router.delete("/", include_in_schema=False)
def remove_image(request: Request, id: str) -> Any:
    """Remove a case."""
    app_instance().datastore().remove_image(id, user_of(request) or "unknown")
    return {}


@router.delete("/label", summary="Remove a label; its versions stay in the history")
def remove_label(request: Request, id: str, tag: str) -> Any:
    """Remove a label."""
    app_instance().datastore().remove_label(id, tag, user_of(request) or "unknown")
    return {}


@router.get("/image/info", summary="See what is known about an image")
def image_info(request: Request, image: str) -> Any:
    """Return what is known about an image."""
    return told(request, app_instance().datastore().get_image_info(image))


@router.get("/label/info", summary="See what is known about a label")
def label_info(request: Request, label: str, tag: str) -> Any:
    """Return what is known about a label."""
    return told(request, app_instance().datastore().get_label_info(label, tag))


@router.put("/image/info", summary="Note something about an image")
def update_image_info(request: Request, image: str, info: str = Form("{}")) -> Any:
    """Merge a JSON object into what is known about an image."""
    return app_instance().datastore().update_image_info(image, _info(request, info))


@router.put("/label/info", summary="Note something about a label")
def update_label_info(request: Request, label: str, tag: str, info: str = Form("{}")) -> Any:
    """Merge a JSON object into what is known about a label."""
    return app_instance().datastore().update_label_info(label, tag, _info(request, info))


@router.get("/dataset", summary="Download all labelled cases as a ZIP archive")
def download_dataset(background_tasks: BackgroundTasks, limit_cases: int | None = None) -> Any:
    """Send the archive and remove it afterwards."""
    datastore = app_instance().datastore()
    if not datastore.get_labeled_images():
        raise ConflictError("no case is labelled, so there is nothing to pack", "submit a label first")
    path = datastore.get_dataset_archive(limit_cases)
    background_tasks.add_task(remove_file, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip")


@router.head("/image", summary="Check if an image exists, and optionally its checksum")
def check_image(image: str, check_sum: str = "") -> Any:
    """Say with a status whether there is an image, and whether it is the one with this checksum."""
    path = _file("image", app_instance().datastore().get_image_uri(image))
    if check_sum:
        algorithm, _, digest = check_sum.rpartition(":")
        found = host_datastore.file_checksum(str(path), algo=algorithm or "SHA256")
        if found.rpartition(":")[2].lower() != digest.lower():
            raise NotFoundError("no image with this checksum")
    return {}


def _info(request: Request, text: str) -> dict[str, Any]:
    values = parse_object(text, "info")
    check_info(values)
    return {**values, "user": user_of(request)} if user_of(request) else values


def _file(what: str, uri: Any) -> Path:
    path = Path(str(uri)) if uri else None
    if path is None or not path.is_file():
        raise NotFoundError(f"no such {what}", "GET /datastore/?output=all lists the cases and their labels")
    return path

"""Labels and bodies that clients send: good ones, bad ones, and ones that never end."""

from __future__ import annotations

import gzip
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nibabel as nib
import numpy as np
import numpy.typing as npt

from faults.served import Served


def encode(array: npt.NDArray[Any], affine: Any) -> bytes:
    """Return a volume as the bytes of a `.nii.gz`."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def decode(data: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return voxels and affine of the bytes of a `.nii.gz`."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    return np.asarray(image.dataobj), image.affine


def promising(shape: tuple[int, int, int]) -> bytes:
    """Return a small `.nii.gz` whose header promises a volume of this shape."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header["vox_offset"] = 352
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["sform_code"] = 1
    header["magic"] = b"n+1"
    return gzip.compress(header.binaryblock + bytes(4) + bytes(1 << 20))


def unfolding(data: bytes, size: int) -> bytes:
    """Return a `.nii.gz` that unfolds to `size` further zeros."""
    block = gzip.compress(bytes(1 << 20), 9)
    return data + block * (size >> 20)


def multipart(field: str, name: str) -> tuple[str, bytes, bytes]:
    """Return content type, start and end of a form with one file."""
    boundary = uuid.uuid4().hex
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    start += "Content-Type: application/octet-stream\r\n\r\n"
    return f"multipart/form-data; boundary={boundary}", start.encode(), f"\r\n--{boundary}--\r\n".encode()


class RawRequest:
    """A request written by hand, so that it can stop in the middle or never end."""

    def __init__(self, server: Served, method: str, path: str, headers: dict[str, str]) -> None:
        where = urlparse(server.process.url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [f"{name}: {value}" for name, value in {**server.headers, **headers}.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def __enter__(self) -> RawRequest:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def chunks(self, data: Iterator[bytes]) -> int:
        """Send chunks until they end or the server has had enough; returns the bytes that were sent."""
        sent = 0
        try:
            for block in data:
                self.socket.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n")
                sent += len(block)
            self.socket.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        return sent

    def answer(self) -> bytes:
        """Return what the server says, empty when it only hung up."""
        received = b""
        try:
            while block := self.socket.recv(65536):
                received += block
                head, found, body = received.partition(b"\r\n\r\n")
                lengths = [
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length:" in line
                ]
                if found and lengths and len(body) >= lengths[0]:
                    break
        except (ConnectionResetError, TimeoutError):
            pass
        return received


def foreign_label(path: Path) -> bytes:
    """Return a label like the one at `path` with ET as 4, as BraTS had it until 2022."""
    array, affine = decode(path.read_bytes())
    return encode(np.where(array == 3, 4, array).astype(np.uint8), affine)

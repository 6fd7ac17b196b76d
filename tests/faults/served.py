"""A real server for the fault tests, and the one rule that every refusal keeps."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from rarevoxel.server.process import ServerProcess
from rarevoxel.volumes import file_sha256

START_SECONDS = 180.0
_NOTES = (".lock", ".log", ".tmp", ".server.lock")


@dataclass
class Served:
    """A running server, what it serves, and one connection to it that every request goes through."""

    process: ServerProcess
    studies: Path
    home: Path
    temporary: Path
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = requests.Session()

    @property
    def root(self) -> Path:
        """The folder that holds studies, home and the temporary folder, and nothing else."""
        return self.studies.parent

    @property
    def app(self) -> Path:
        """The app folder inside the home."""
        return self.home / "tiny"

    def ask(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one request over the kept connection."""
        headers = {**self.headers, **kwargs.pop("headers", {})}
        return self.session.request(method, f"{self.process.url}{path}", headers=headers, timeout=120, **kwargs)

    def infer(self, case: str, *, model: str = "calf", output: str = "json", **kwargs: Any) -> requests.Response:
        """Ask for a mask."""
        return self.ask("POST", f"/infer/{model}", params={"image": case, "output": output}, **kwargs)

    def put_label(
        self, case: str, file: Path | bytes, params: str = "{}", *, name: str = "label.nii.gz", **kwargs: Any
    ) -> requests.Response:
        """Submit a label."""
        content = file if isinstance(file, bytes) else file.read_bytes()
        query = {"image": case, "tag": kwargs.pop("tag", "final")}
        files = {"label": (name, content)}
        return self.ask("PUT", "/datastore/label", params=query, data={"params": params}, files=files, **kwargs)

    def label(self, case: str, tag: str = "final") -> Path:
        """Where the label of a case lies."""
        return self.studies / "labels" / tag / f"{case}.nii.gz"

    def info(self) -> dict[str, Any]:
        """Return what the server says about itself."""
        response = self.ask("GET", "/info/")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def logs(self) -> str:
        """Everything the server has logged, to its terminal and to its files."""
        files = [self.process.log, *self.home.rglob("*.log")]
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())

    def kept(self) -> dict[str, str]:
        """The SHA-256 of every file in studies and home but logs, locks and labels set aside because of a fault."""
        found = {}
        for folder in (self.studies, self.home):
            for path in sorted(folder.rglob("*")):
                parts = path.relative_to(folder).parts
                passing = path.name.endswith(_NOTES) or {"rejected", "logs", "tmp", "__pycache__"} & set(parts)
                if path.is_file() and not passing:
                    found[f"{folder.name}/{'/'.join(parts)}"] = file_sha256(path)
        return found

    def beside(self) -> list[Path]:
        """Everything near the server's folders that is in none of them."""
        own = (self.studies, self.home, self.temporary, self.root / "person")
        return sorted(path for path in self.root.parent.rglob("*") if not any(p in own for p in path.parents))

    def litter(self) -> list[Path]:
        """Temporary files that stayed behind, after the server had a moment to clean up."""
        deadline = time.monotonic() + 5
        while (left := list(self._temporaries())) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _temporaries(self) -> Iterator[Path]:
        for folder in (self.temporary, self.home / "tmp"):
            yield from (path for path in folder.rglob("*") if path.is_file())
        yield from self.studies.rglob("*.tmp")
        yield from self.home.rglob("*.tmp")


@contextlib.contextmanager
def refusing(server: Served) -> Iterator[None]:
    """What goes on in the block must leave every earlier file, nothing temporary, and a server that goes on."""
    before, beside = server.kept(), server.beside()
    yield
    after = server.kept()
    assert {name: after.get(name) for name in before} == before
    assert set(after) == set(before)
    assert server.beside() == beside
    assert server.litter() == []
    server.info()


def check_refusal(
    response: requests.Response, status: int, *words: str, server: Served | None = None, code: str = ""
) -> dict[str, Any]:
    """Check the answer to what must be refused, and return its error: one shape, no traceback, no path.

    Args:
        response: what the server answered.
        status: the status it must have.
        words: what its message or hint must contain.
        server: whose folders must not be named.
        code: the error's code, where it matters.
    """
    assert response.status_code == status, f"{response.status_code} instead of {status}: {response.text[:1000]}"
    error = dict(response.json()["error"])
    assert {"code", "message", "hint"} <= set(error) <= {"code", "message", "hint", "findings"}, error
    assert error["code"]
    assert len(error["message"]) > 10
    assert not code or error["code"] == code, error
    for word in words:
        assert word in f"{error['message']} {error['hint']}", error
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    assert "/root" not in response.text
    for folder in (server.root, Path.home()) if server else ():
        assert str(folder) not in response.text, "a path of the server in an answer"
    return error


@contextlib.contextmanager
def serving(
    root: Path,
    studies: Path,
    app: Path,
    options: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Serve `root / "studies"`, which `studies` is, with a temporary folder of its own, until the block ends."""
    temporary = root / "tmp"
    person = root / "person"
    for folder in (temporary, person):
        folder.mkdir(exist_ok=True)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MONAI_LABEL_")}
    process = ServerProcess(
        studies,
        home=root / "home",
        log=root.with_name(f"{root.name}.log"),
        options=("--app", str(app), *options),
        environment={**inherited, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary), "HOME": str(person)},
    )
    with process:
        process.wait_until_ready(START_SECONDS)
        yield Served(process, studies, root / "home", temporary, dict(headers or {}))


def make_app(folder: Path, app_toml: str, weights: Path, main_py: Path) -> Path:
    """Write an app folder like `apps/brain_tumor`, with a tiny network."""
    (folder / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, folder / "main.py")
    shutil.copyfile(weights, folder / "starter" / "starter.pt")
    (folder / "app.toml").write_text(app_toml, encoding="utf-8")
    return folder

"""The registry of weights: published whole, kept, rolled back, withdrawn, and right again after any crash."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConflictError, ModelError, NotFoundError
from rarevoxel.inference import Engine
from rarevoxel.inference.sources import load_checked, read_sidecar, sidecar_of, sources
from rarevoxel.lineage import Lineage
from rarevoxel.training import Registry, shelf
from rarevoxel.volumes import file_sha256

Saver = Callable[..., Path]


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, save_tiny: Saver) -> list[Path]:
    """Weight files with the seeds 0 to 6."""
    folder = tmp_path_factory.mktemp("candidates")
    return [save_tiny(folder / f"{seed}.pt", seed=seed) for seed in range(7)]


@pytest.fixture
def app(tmp_path: Path, weights: list[Path]) -> Path:
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "starter.pt").write_bytes(weights[0].read_bytes())
    return tmp_path


@pytest.fixture
def models(app: Path) -> Registry:
    return Registry(app, "calf", keep=3)


@pytest.fixture
def publish(models: Registry, weights: list[Path]) -> Callable[[int], str]:
    def run(seed: int) -> str:
        created = f"2026-01-01T00:00:{seed:02d}.000+00:00"
        lineage = Lineage("calf", f"run-{seed}", created, file_sha256(weights[seed]))
        return models.publish(weights[seed], lineage, user="ann").name

    return run


def served(models: Registry) -> int:
    """The seed of the weights a server that starts now would serve."""
    for path, expected in sources(models.in_service):
        try:
            return int(load_checked(path, expected).info["seed"])
        except ModelError:
            continue
    pytest.fail("nothing serves")


def names(models: Registry) -> list[str]:
    return [version.name for version in models.versions()]


def test_it_begins_with_the_starter(models: Registry) -> None:
    assert models.current() == "starter"
    (starter,) = models.versions()
    assert (starter.name, starter.in_service, starter.lineage) == ("starter", True, None)
    assert models.log() == []
    assert models.recover() == ""
    assert Registry(models.shelf.starter.parent, "calf").current() == ""


def test_publishing(models: Registry, publish: Callable[[int], str], weights: list[Path]) -> None:
    assert publish(1) == "run-1"
    assert models.current() == "run-1"
    assert served(models) == 1
    sha256 = file_sha256(weights[1])
    assert file_sha256(models.shelf.published) == sha256
    assert sidecar_of(models.shelf.published).read_text() == f"{sha256}  calf.pt\n", "as sha256sum --check takes it"
    assert Lineage.load(models.shelf.lineage_file).version == "run-1"
    (entry,) = models.log()
    assert (entry["action"], entry["version"], entry["user"], entry["sha256"]) == ("published", "run-1", "ann", sha256)
    assert weights[1].is_file(), "the candidate stays where it is"
    assert not list(models.shelf.published.parent.rglob(".*.tmp"))


def test_the_last_ones_are_kept(models: Registry, publish: Callable[[int], str]) -> None:
    for seed in range(1, 6):
        publish(seed)
    assert names(models) == ["run-5", "run-4", "run-3", "starter"]
    kept = models.shelf.published.with_suffix("") / "versions"
    assert sorted(path.name for path in kept.iterdir()) == [f"run-{i}.{s}" for i in (3, 4, 5) for s in ("json", "pt")]


def test_the_one_in_service_is_never_dropped(models: Registry, publish: Callable[[int], str]) -> None:
    for seed in (1, 2, 3):
        publish(seed)
    models.rollback("run-1")
    models.shelf.prune(3, models.current())
    lineage = Lineage("calf", "x", "2026-02-01", "")
    for number in (4, 5, 6):
        folder = models.shelf.published.with_suffix("") / "versions"
        record = replace(lineage, version=f"run-{number}", created=f"2026-02-0{number}", sha256=str(number))
        (folder / f"run-{number}.json").write_text(json.dumps(record.to_dict()))
        (folder / f"run-{number}.pt").write_bytes(b"x")
    models.shelf.prune(3, models.current())
    assert "run-1" in names(models)
    assert "run-2" not in names(models)
    assert served(models) == 1


def test_rolling_back(models: Registry, publish: Callable[[int], str]) -> None:
    for seed in (1, 2, 3):
        publish(seed)
    assert models.rollback(user="bob").name == "run-2"
    assert (models.current(), served(models)) == ("run-2", 2)
    assert Lineage.load(models.shelf.lineage_file).version == "run-2"
    assert models.rollback().name == "run-1"
    assert models.rollback().name == "starter"
    assert (models.current(), served(models)) == ("starter", 0)
    with pytest.raises(ConflictError, match="'calf' has no version before the one in service"):
        models.rollback()
    assert models.rollback("run-3").in_service
    assert served(models) == 3
    with pytest.raises(ConflictError, match="version 'run-3' of 'calf' is in service already"):
        models.rollback("run-3")
    with pytest.raises(NotFoundError, match=r"no version 'x' of 'calf', expected one of \['run-3', 'run-2'"):
        models.rollback("x")
    told = [(entry["action"], entry["version"], entry["user"]) for entry in models.log()[3:5]]
    assert told == [("rolled back", "run-2", "bob"), ("rolled back", "run-1", "unknown")]


def test_withdrawing(models: Registry, publish: Callable[[int], str]) -> None:
    publish(1)
    assert models.withdraw().name == "starter"
    assert (models.current(), served(models)) == ("starter", 0)
    assert not models.shelf.published.exists()
    assert names(models) == ["run-1", "starter"]
    publish(2)
    assert (models.current(), served(models)) == ("run-2", 2)
    models.shelf.starter.unlink()
    with pytest.raises(NotFoundError, match="no version 'starter'"):
        models.withdraw()
    assert served(models) == 2


def test_a_torn_version_is_not_put_into_service(models: Registry, publish: Callable[[int], str]) -> None:
    publish(1)
    publish(2)
    (models.shelf.published.with_suffix("") / "versions" / "run-1.pt").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"run-1\.pt: checksum .* differs from the recorded"):
        models.rollback("run-1")
    assert served(models) == 2


def test_a_candidate_must_be_the_one_of_its_lineage(models: Registry, weights: list[Path]) -> None:
    with pytest.raises(ModelError, match=r"1\.pt: checksum .* differs from the recorded aaaaaaaaaaaa"):
        models.publish(weights[1], Lineage("calf", "run", "now", "a" * 64))
    assert models.current() == "starter"


def test_a_version_name_is_used_once(models: Registry, weights: list[Path]) -> None:
    published = [
        models.publish(weights[i], Lineage("calf", "run", f"2026-01-0{i}", file_sha256(weights[i]))).name
        for i in (1, 2, 3)
    ]
    assert published == ["run", "run-2", "run-3"]
    assert models.current() == "run-3"


def test_weights_from_before_the_registry_are_kept_as_a_version(
    models: Registry, publish: Callable[[int], str], weights: list[Path]
) -> None:
    models.shelf.published.parent.mkdir()
    models.shelf.published.write_bytes(weights[5].read_bytes())
    assert (models.current(), served(models)) == ("", 5)
    publish(1)
    found = f"found-{file_sha256(weights[5])[:12]}"
    assert set(names(models)) == {"run-1", found, "starter"}
    models.rollback(found)
    assert served(models) == 5


def steps(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """Let the process die before its `stop_at`-th change on disk."""
    done = [0]

    def counting(change: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            done[0] += 1
            if done[0] == stop_at:
                raise Killed
            return change(*args, **kwargs)

        return step

    monkeypatch.setattr(shelf, "replace_file", counting(shelf.replace_file))
    monkeypatch.setattr(shelf, "write_json", counting(shelf.write_json))
    monkeypatch.setattr(Path, "unlink", counting(Path.unlink))


@pytest.mark.fault(37)
@pytest.mark.parametrize("action", ["publish", "rollback", "withdraw"])
def test_dying_anywhere_leaves_the_old_or_the_new_in_service(
    models: Registry, publish: Callable[[int], str], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    act = {"publish": lambda: publish(3), "rollback": models.rollback, "withdraw": models.withdraw}[action]
    old, new = 2, {"publish": 3, "rollback": 1, "withdraw": 0}[action]
    publish(1)
    publish(2)
    met = []
    for stop_at in range(1, 20):
        try:
            with monkeypatch.context() as patch:
                steps(patch, stop_at)
                act()
        except Killed:
            met.append(served(models))
            models.recover()
            assert served(models) == met[-1], "recovery keeps what served"
            assert models.current() == {0: "starter"}.get(met[-1], f"run-{met[-1]}")
            sidecar = read_sidecar(models.shelf.published)
            assert len(sidecar) == 1
            if met[-1]:
                assert sidecar == (file_sha256(models.shelf.published),)
                assert Lineage.load(models.shelf.lineage_file).sha256 == sidecar[0]
            assert models.recover() == "", "once is enough"
            if models.current() != "run-2":
                models.rollback("run-2")
            for path in (models.shelf.published.with_suffix("") / "versions").glob("run-3.*"):
                path.unlink()
        else:
            break
    assert len(met) >= {"publish": 6, "rollback": 4, "withdraw": 3}[action]
    assert set(met) == {old, new}
    assert served(models) == new


@pytest.mark.fault(37)
@pytest.mark.parametrize("how", ["torn", "gone", "another"])
def test_a_published_file_that_is_not_the_one_recorded_is_put_right(
    models: Registry, publish: Callable[[int], str], weights: list[Path], how: str
) -> None:
    for seed in (1, 2, 3):
        publish(seed)
    models.rollback("run-2")
    whole = models.shelf.published.read_bytes()
    if how == "gone":
        models.shelf.published.unlink()
    else:
        models.shelf.published.write_bytes(whole[:1000] if how == "torn" else weights[6].read_bytes())
    assert served(models) == 2, "what was in service, not the newest"
    assert models.current() == "run-2"
    assert "version run-2 is back" in models.recover()
    assert models.shelf.published.read_bytes() == whole
    assert models.shelf.published.with_name("calf.pt.refused").is_file() is (how != "gone")
    assert models.log()[-1]["action"] == "recovered"


@pytest.mark.fault(37)
def test_a_running_engine_follows_the_registry(
    models: Registry, publish: Callable[[int], str], config: AppConfig, case_folder: Path, weights: list[Path]
) -> None:
    engine = Engine(config, models.in_service, device="cpu")

    def model() -> tuple[int, str]:
        answered = engine.predict(case_folder).model
        assert answered["sha256"] == file_sha256(weights[answered["seed"]])
        return answered["seed"], answered["version"]

    assert model() == (0, "starter")
    publish(1)
    publish(2)
    assert model() == (2, "run-2")
    models.rollback()
    assert model() == (1, "run-1")
    models.shelf.published.write_bytes(weights[6].read_bytes())
    assert model() == (1, "run-1"), "weights nobody published are not served"
    assert "calf.pt: checksum" in engine.warning
    assert engine.warning.endswith("version run-1 serves")
    restarted = Engine(config, models.in_service, device="cpu")
    assert restarted.predict(case_folder).model["version"] == "run-1"
    assert restarted.warning.endswith("version run-1 serves")
    models.recover()
    assert model() == (1, "run-1")
    assert engine.warning == ""
    models.withdraw()
    assert model() == (0, "starter")


@pytest.mark.fault(37)
def test_torn_records_and_logs_are_left_out(models: Registry, publish: Callable[[int], str]) -> None:
    publish(1)
    publish(2)
    folder = models.shelf.published.with_suffix("") / "versions"
    (folder / "run-1.json").write_text('{"format": 1, "sha')
    with models._log.path.open("ab") as stream:
        stream.write(b'{"action": "publi')
    sidecar_of(models.shelf.published).write_bytes(b"\xff torn")
    assert names(models) == ["run-2", "starter"]
    assert served(models) == 2
    publish(3)
    assert [entry["version"] for entry in models.log()] == ["run-1", "run-2", "run-3"]


def test_a_full_disk_leaves_what_was_in_service(
    models: Registry, publish: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    before = models.shelf.published.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            publish(2)
    assert models.shelf.published.read_bytes() == before
    assert (models.current(), served(models)) == ("run-1", 1)
    assert not list(models.shelf.published.parent.rglob(".*.tmp"))
    publish(3)
    assert served(models) == 3


@pytest.fixture
def stopping() -> Iterator[Callable[[Callable[[], None]], threading.Event]]:
    """Run a function again and again in a thread until the test ends."""
    done, threads = threading.Event(), []

    def start(function: Callable[[], None]) -> threading.Event:
        def loop() -> None:
            while not done.is_set():
                function()

        threads.append(threading.Thread(target=loop))
        threads[-1].start()
        return done

    yield start
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.fault(37)
def test_readers_never_meet_a_torn_or_a_wrong_file(
    models: Registry,
    publish: Callable[[int], str],
    stopping: Callable[[Callable[[], None]], threading.Event],
) -> None:
    publish(1)
    publish(2)
    met: list[int] = []
    stopping(lambda: met.append(served(models)))
    for i in range(20):
        models.rollback(f"run-{1 + i % 2}")
    while len(met) < 10:
        time.sleep(0.01)
    assert set(met) <= {1, 2}, "never the starter, which is only served when all else is refused"


@pytest.mark.fault(37)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_while_publishing(models: Registry, publish: Callable[[int], str]) -> None:
    publish(1)
    publish(2)
    for round_ in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    for number in (1, 2):
                        if models.current() != f"run-{number}":
                            models.rollback(f"run-{number}")
            finally:
                os._exit(1)
        time.sleep(0.01 + 0.01 * round_)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        before = served(models)
        assert before in (1, 2)
        models.recover()
        assert served(models) == before
        assert read_sidecar(models.shelf.published) == (file_sha256(models.shelf.published),)
        torch.load(models.shelf.published, weights_only=True)

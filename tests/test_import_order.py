"""Imports go one way, and the library parts import without what they do not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rarevoxel

PACKAGE = Path(rarevoxel.__file__).parent

LAYERS = (
    ("clock", "errors", "labels", "config", "bundled", "lineage"),
    ("cases", "volumes", "studies", "statistics", "phantom"),
    ("transforms", "losses", "sampling", "networks"),
    ("training", "inference", "learning", "evaluation", "comparison"),
    ("datastore", "report", "export"),
    ("server",),
    ("cli",),
    ("__main__",),
)
"""A part imports parts of its own row or of the rows above it."""

RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
FORBIDDEN = {
    "monailabel": ("errors", "labels", "config", "statistics", "losses", "transforms", "sampling", "networks", "cases"),
    "torch": ("errors", "labels", "config", "bundled", "statistics", "cases", "volumes", "studies", "phantom"),
    "monai": ("errors", "labels", "config", "bundled", "statistics", "cases", "volumes", "studies", "phantom"),
}


def sources() -> list[Path]:
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py" and "apps" not in path.parts
    )


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and full module name of every import, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            assert node.module is not None
            if node.module == "rarevoxel":
                yield from ((node.lineno, f"rarevoxel.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def upward(part: str, source: str) -> list[str]:
    found = []
    for line, module in imported(source):
        pieces = module.split(".")
        if pieces[0] != "rarevoxel" or len(pieces) < 2 or pieces[1].startswith("__version"):
            continue
        if RANK[pieces[1]] > RANK[part]:
            found.append(f"line {line} imports {module}")
    return found


def test_the_checker_sees_every_way_to_import_upwards() -> None:
    for line in ("import rarevoxel.server.app", "from rarevoxel import server", "from rarevoxel.server.app import X"):
        assert upward("losses", f"def f():\n    {line}\n") == [f"line 2 imports {_module(line)}"]
    assert upward("server", "from rarevoxel.losses import CALFLoss\nfrom rarevoxel import __version__\n") == []


def _module(line: str) -> str:
    return next(imported(line))[1]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in RANK, f"{part} has no place in LAYERS"
    assert upward(part, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_parts_name_no_package_they_must_do_without(path: Path) -> None:
    packages = {module.split(".")[0] for _, module in imported(path.read_text(encoding="utf-8"))}
    assert {package for package, parts in FORBIDDEN.items() if part_of(path) in parts} & packages == set()


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("rarevoxel.errors, rarevoxel.labels, rarevoxel.config, rarevoxel.bundled", ("torch", "monai", "scipy")),
        ("rarevoxel.statistics, rarevoxel.statistics.folder, rarevoxel.cases", ("torch", "monai", "monailabel")),
        ("rarevoxel.phantom, rarevoxel.volumes, rarevoxel.studies", ("torch", "monai", "monailabel")),
        ("rarevoxel.cli; rarevoxel.cli.build_parser()", ("torch", "monai", "scipy", "nibabel", "matplotlib")),
        ("rarevoxel.losses, rarevoxel.transforms, rarevoxel.sampling, rarevoxel.networks", ("monailabel",)),
    ],
)
def test_what_really_gets_imported(modules: str, absent: tuple[str, ...]) -> None:
    code = f"import {modules}\nimport sys\nprint([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

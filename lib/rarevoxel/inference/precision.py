"""Which floating-point type a network is faster in, measured once for each machine and network."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarevoxel.bundled import default_cache
from rarevoxel.config import PRECISIONS
from rarevoxel.errors import ConfigError
from rarevoxel.networks import fast_dtype
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

VARIABLE = "RAREVOXEL_PRECISION"
"""Environment variable that goes before what the configuration says; one of `rarevoxel.config.PRECISIONS`."""

FILE = "precision.json"
"""Where measurements are kept, in the user's cache folder."""

BLOCK = 64
"""Edge in voxels of the block that is measured."""

_ROUNDS = 2


def choose_dtype(
    network: nn.Module,
    name: str,
    *,
    multiple: int,
    channels: int,
    wanted: str = "auto",
    folder: Path | None = None,
) -> torch.dtype:
    """Return the type to compute a network's convolutions in.

    With `auto`, where the hardware knows a short type (see `fast_dtype`), both it and float32 are timed on a block, in
    turn, and the faster one is taken; the times are kept, so that the answer stays the same on this machine.

    Args:
        network: in evaluation mode, on its device.
        name: tells this network's shape from others.
        multiple: what spatial sizes must be divisible by.
        channels: of its input.
        wanted: one of `PRECISIONS`; the environment variable `RAREVOXEL_PRECISION` goes before it.
        folder: where times are kept; the user's cache folder when None.

    Raises:
        ConfigError: if the environment variable says something else.
    """
    wanted = os.environ.get(VARIABLE) or wanted
    if wanted not in PRECISIONS:
        raise ConfigError(f"{VARIABLE} ({wanted!r}) must be one of {PRECISIONS}", "correct or unset it")
    device = next(network.parameters(), torch.empty(0)).device
    fast = fast_dtype(device)
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    if fast == torch.float32:
        return fast
    file = (folder or default_cache()) / FILE
    key = " | ".join((machine_name(device), f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", name))
    known = _read(file)
    seconds = known.get(key) or _measure(network, multiple, channels, device, fast)
    if key not in known:
        _keep(file, {**_read(file), key: seconds})
    return fast if seconds["fast"] < seconds["float32"] else torch.float32


def machine_name(device: torch.device) -> str:
    """Return the name of the processor a device is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return f"{next(named, platform.processor() or platform.machine())} {torch.backends.cpu.get_cpu_capability()}"


def _measure(
    network: nn.Module, multiple: int, channels: int, device: torch.device, fast: torch.dtype
) -> dict[str, float]:
    """Least seconds of a pass in either type."""
    edge = max(math.ceil(BLOCK / multiple), 2) * multiple
    block = torch.randn((1, channels, edge, edge, edge), generator=torch.Generator().manual_seed(0)).to(device)
    best = {"fast": math.inf, "float32": math.inf}
    for number in range(1 + _ROUNDS):
        for name, dtype in (("fast", fast), ("float32", torch.float32)):
            started = time.perf_counter()
            with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                network(block)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # The first round pays for what is prepared once.
                best[name] = min(best[name], time.perf_counter() - started)
    logger.info(
        "a block of %d^3 voxels takes %.4f s in %s, %.4f s in float32", edge, best["fast"], fast, best["float32"]
    )
    return best


def _read(file: Path) -> dict[str, dict[str, float]]:
    """What is known; entries that are no two positive numbers count as unknown, and so does a file that is no JSON."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, Mapping) else ()
    return {key: dict(entry) for key, entry in entries if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(
        isinstance(entry.get(name), float) and 0 < entry[name] < math.inf for name in ("fast", "float32")
    )


def _keep(file: Path, content: Mapping[str, Mapping[str, float]]) -> None:
    try:
        replace_file(file, json.dumps(content, indent=1).encode())
    except OSError as error:
        logger.debug("%s cannot be kept: %s", file.name, error)

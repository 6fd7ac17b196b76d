"""The state of random number generators as plain data and tensors, so that a run can be taken up where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def torch_state() -> dict[str, Any]:
    """Return the state of torch's global generators, those of GPUs included."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_torch_state(state: Mapping[str, Any]) -> None:
    """Set torch's global generators to a state of `torch_state`; GPUs that are not there any more are passed over."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

"""The state of random number generators as plain data and tensors, so that a run can be taken up where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform


def torch_state() -> dict[str, Any]:
    """Return the state of torch's global generators, those of GPUs included."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_torch_state(state: Mapping[str, Any]) -> None:
    """Set torch's global generators to a state of `torch_state`; GPUs that are not there any more are passed over."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state of a numpy generator: plain numbers."""
    return dict(generator.bit_generator.state)


def set_generator_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Set a numpy generator of the same kind to a state of `generator_state`."""
    generator.bit_generator.state = dict(state)


def transform_states(transform: Transform) -> dict[str, dict[str, Any]]:
    """Return the states of all generators in a MONAI transform, those of nested transforms included.

    Returns:
        Place of the generator (attribute names and positions from `transform` on, `.` between) -> its state.
    """
    return {place: _state(inner.R) for place, inner in _randomizables(transform)}


def set_transform_states(transform: Transform, states: Mapping[str, Mapping[str, Any]]) -> None:
    """Set all generators of an equally built transform to states of `transform_states`.

    Raises:
        KeyError: if a generator has no state.
    """
    for place, inner in _randomizables(transform):
        state = states[place]
        keys = state["keys"].numpy().astype(np.uint32)
        inner.R.set_state(("MT19937", keys, state["position"], state["has_gauss"], state["gauss"]))


def _state(generator: np.random.RandomState) -> dict[str, Any]:
    _, keys, position, has_gauss, gauss = generator.get_state(legacy=True)
    # The unpickler for untrusted files knows tensors, but no numpy arrays.
    return {
        "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "position": int(position),
        "has_gauss": int(has_gauss),
        "gauss": float(gauss),
    }


def _randomizables(transform: Any) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", transform)]
    while waiting:
        place, item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Randomizable):
            yield place, item
        inner: dict[Any, Any] = {}
        if isinstance(item, (list, tuple)):
            inner = dict(enumerate(item))
        elif isinstance(item, Mapping):
            inner = dict(item)
        elif isinstance(item, (Transform, Randomizable)):
            inner = vars(item)
        waiting += [(f"{place}.{name}", value) for name, value in inner.items()]

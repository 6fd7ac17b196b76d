"""What a model says of one case when it is asked in several ways: mirrored, with layers dropped, by earlier weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor

from rarevoxel.config import SCORING_METHODS
from rarevoxel.errors import ConfigError, ModelError
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.entropy import binary_entropy
from rarevoxel.inference.hooks import Hook, deep_layers, hooked
from rarevoxel.inference.serving import Prepared, Serving
from rarevoxel.inference.sources import STARTER, kept_versions, load_checked
from rarevoxel.inference.two_stage import combine
from rarevoxel.inference.views import View, views
from rarevoxel.labels import REGIONS
from rarevoxel.networks import block_edge

logger = logging.getLogger(__name__)

METHODS = SCORING_METHODS
"""How samples are made: of the image, of the network's layers, of its versions, or not at all."""

GAIN = 0.1
"""By how much a sequence's contrast is raised or lowered for a sample; less than training does."""

GAINS = ((1, 1, 1, 1), (-1, -1, -1, -1), (1, -1, 1, -1), (-1, 1, -1, 1))
"""Which sequences are raised and which are lowered, a row a sample; every other one is mirrored, too."""

DROPPED = 0.2
"""Share of a deep layer's channels that a dropout sample goes without."""

DRAWS = 6
"""Samples by dropout."""

_snapshots: WeakKeyDictionary[Engine, dict[str, Serving | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Spread:
    """What the samples of one case say together, on the network's grid, float32 `(R, h, w, d)` of WT, TC, ET.

    Attributes:
        proposed: probabilities that the mask is decided by, as the engine answers.
        mean: of the samples' probabilities.
        mean_entropy: mean of the samples' entropies, bits.
        count: how many samples there are.
    """

    proposed: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    mean_entropy: npt.NDArray[np.float32]
    count: int


def own_images(engine: Engine, prepared: Prepared) -> list[torch.Tensor]:
    """Return what the network says of every mirror image that the engine averages, turned back; see `Engine.run`."""
    serving, mirror = prepared.serving, engine.config.inference.mirror
    shown = views(prepared.data.shape[1:], mirror, edge=block_edge(serving.network), multiple=serving.multiple)
    return [_seen(engine, prepared, view) for view in shown]


def samples(
    engine: Engine, prepared: Prepared, own: Sequence[torch.Tensor], *, method: str = "tta", seed: int = 0
) -> Iterator[torch.Tensor]:
    """Yield region probabilities float32 `(3, h, w, d)` of one case, one sample at a time.

    `tta`: the engine's own mirror images; left and right exchanged, where that is none of them; then `GAINS`. Heads do
    not come upside down, so other axes would tell how the network copes with what it need not know.
    `dropout`: `DRAWS` times the network without a share of the channels of its deepest levels, the same in all windows.
    `snapshots`: the weights in service, then the versions kept of the model and the starter, as far as they work on
    the same grid. `none`: the answer itself.

    Args:
        engine: whose weights are asked.
        prepared: the case.
        own: from `own_images`.
        method: one of `METHODS`.
        seed: of the dropout; the others draw nothing.

    Raises:
        ConfigError: for an unknown method.
        UnavailableError: see `Engine.run`.

    References:
        Y. Gal, Z. Ghahramani, 2016, Dropout as a Bayesian approximation, arXiv:1506.02142: there the network was
        trained with it. Here whole channels of a network trained without are dropped, so what the spread is worth has
        to be measured.
    """
    if method not in METHODS:
        raise ConfigError(f"method ({method!r}) must be one of {', '.join(METHODS)}", "see [active] in app.toml")
    serving = prepared.serving
    if method == "tta":
        yield from (acted(serving, seen) for seen in own)
        yield from (acted(serving, seen) for seen in _changed_images(engine, prepared))
    elif method == "dropout":
        yield from (acted(serving, _dropped(engine, prepared, seed, draw)) for draw in range(DRAWS))
    else:
        yield acted(serving, _mean(own))
    if method == "snapshots":
        for other in snapshots(engine, serving):
            yield acted(other, engine.run(other, prepared.data))


def spread(
    engine: Engine, prepared: Prepared, own: Sequence[torch.Tensor], *, method: str = "tta", seed: int = 0
) -> Spread:
    """Return what the samples say together; never more than one of them is held beside `own`. See `samples`."""
    proposed = acted(prepared.serving, _mean(own))
    mean, entropy, count = together(samples(engine, prepared, own, method=method, seed=seed))
    return Spread(proposed.numpy(), mean.numpy(), entropy.numpy(), count)


def together(drawn: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the mean of probabilities, the mean of their binary entropies in bits, and how many there were.

    Args:
        drawn: at least one, of equal shapes.
    """
    total: torch.Tensor | float = 0.0
    entropy: torch.Tensor | float = 0.0
    count = 0
    for sample in drawn:
        total, entropy, count = total + sample, entropy + binary_entropy(sample), count + 1
    return torch.as_tensor(total) / count, torch.as_tensor(entropy) / count, count


def acted(serving: Serving, seen: torch.Tensor) -> torch.Tensor:
    """Return probabilities `(3, h, w, d)` of the regions, on which the second stage has acted where there is one."""
    stage, count = serving.two_stage, len(REGIONS)
    return seen if stage is None else combine(seen[:count], seen[count:], stage.threshold, stage.form)


def snapshots(engine: Engine, serving: Serving) -> list[Serving]:
    """Return the other weights of an engine's model that work on the same grid: kept versions, newest first; starter.

    They are read once and stay in memory as long as the engine does. What cannot be read is left out and logged.

    Args:
        engine: its first path is the published file.
        serving: the weights in service.
    """
    known = _snapshots.setdefault(engine, {})
    published, *rest = engine.paths
    places = [(kept.path, kept.sha256, kept.version) for kept in kept_versions(published)]
    places += [(path, "", STARTER) for path in rest if path.is_file()]
    found: dict[str, Serving] = {}
    for path, sha256, version in places:
        key = sha256 or str(path)
        if key not in known:
            try:
                known[key] = engine.serving_of(load_checked(path, [sha256] if sha256 else [], engine.device), version)
            except ModelError as error:
                logger.warning("snapshot %s is left out: %s", version, error)
                known[key] = None
        other = known[key]
        # Engines share one chain of transforms for equal preprocessing, so the same object means the same grid.
        if other is not None and other.sha256 != serving.sha256 and other.transforms is serving.transforms:
            found.setdefault(other.sha256, other)
    return list(found.values())


def _seen(engine: Engine, prepared: Prepared, view: View, gains: Sequence[float] = ()) -> torch.Tensor:
    image = prepared.data.as_tensor()
    if len(gains) > 0:
        image = image * torch.tensor([1.0 + GAIN * gain for gain in gains]).view(-1, 1, 1, 1)
    return view.back(engine.run(prepared.serving, view.show(image), mirror=()))


def _changed_images(engine: Engine, prepared: Prepared) -> Iterator[torch.Tensor]:
    across = _left_right(prepared.data)
    turned = View((across,))
    if across not in engine.config.inference.mirror:
        yield _seen(engine, prepared, turned)
    for index, gains in enumerate(GAINS):
        yield _seen(engine, prepared, turned if index % 2 else View(), gains)


def _left_right(image: MetaTensor) -> int:
    """The spatial axis along which left and right lie."""
    return int(np.abs(np.asarray(image.affine)[0, :3]).argmax())


def _dropped(engine: Engine, prepared: Prepared, seed: int, draw: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 * seed + draw)

    def dropping() -> Hook:
        kept: list[torch.Tensor] = []

        def drop(output: torch.Tensor) -> torch.Tensor:
            if not kept:
                chosen = torch.rand(output.shape[1], generator=generator) >= DROPPED
                kept.append(chosen.to(output.device, output.dtype).view(1, -1, 1, 1, 1) / (1.0 - DROPPED))
            return output * kept[0]

        return drop

    with hooked({layer: dropping() for layer in deep_layers(prepared.serving.network)}):
        return engine.run(prepared.serving, prepared.data, mirror=())


def _mean(seen: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(seen)).mean(0) if len(seen) > 1 else seen[0]

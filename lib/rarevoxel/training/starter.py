"""The starter model: trained on nothing but phantoms whose shapes and contrasts vary beyond what scanners produce."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from rarevoxel.config import AppConfig
from rarevoxel.labels import labels_to_regions
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network, save_weights
from rarevoxel.phantom import (
    PhantomSpec,
    Severity,
    Tissue,
    anatomy,
    contrast_table,
    render,
    tissue_to_labels,
    tumour_map,
)
from rarevoxel.phantom.appearance import SEQUENCES
from rarevoxel.phantom.fields import smooth_field
from rarevoxel.training.step import follow, optimize
from rarevoxel.transforms.normalize import NormalizeBrain

logger = logging.getLogger(__name__)

VOLUME = (80, 96, 80)
REGIMES = (
    Severity(median_ml=50.0, sigma=0.6, foci=(1, 1), lesion_share=0.0),
    Severity(median_ml=50.0, sigma=0.6, foci=(1, 2), lesion_share=0.05),
    Severity(median_ml=12.0, sigma=0.9, foci=(1, 4), lesion_share=0.2),
    Severity(median_ml=10.0, sigma=0.9, foci=(6, 25), lesion_share=0.97),
)
LEARNING_RATE = 1e-3
POOL = 48
REUSE = 4


class PhantomStream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Endless `(image (4, H, W, D), regions (3, H, W, D))` pairs, each rendered anew.

    Shapes are costly and contrasts cheap, so a tissue map is kept in a pool and rendered several times with other
    contrasts, flips, blur, noise and bias before a new one takes its place.

    Args:
        config: gives spacing and normalisation.
        seed: seed of the stream; each loader worker draws its own branch of it.
    """

    def __init__(self, config: AppConfig, seed: int) -> None:
        self.spacing = config.preprocessing.spacing
        low, high = config.preprocessing.percentiles
        self.normalize = NormalizeBrain((low, high))
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        pool: list[npt.NDArray[np.uint8]] = []
        count = 0
        while True:
            if len(pool) < POOL or count % REUSE == 0:
                spacing = tuple(float(s * rng.uniform(0.9, 1.12)) for s in self.spacing)
                pool.append(_tissue(rng, (spacing[0], spacing[1], spacing[2])))
                pool = pool[-POOL:]
            count += 1
            yield self._sample(pool[rng.integers(len(pool))], rng)

    def _sample(self, tissue: npt.NDArray[np.uint8], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        if rng.random() < 0.5:
            tissue = tissue[::-1]
        images = render(
            tissue,
            rng,
            self.spacing,  # type: ignore[arg-type]
            table=random_contrast(rng),
            noise=rng.uniform(0.004, 0.045),
            bias=rng.uniform(0.0, 0.25),
            blur_mm=rng.uniform(0.5, 2.0),
        )
        images *= healthy_variation(tissue, rng, self.spacing)
        images = images ** rng.uniform(0.7, 1.4, size=(4, 1, 1, 1)).astype(np.float32)
        image = self.normalize(torch.from_numpy(images))
        if rng.random() < 0.06:
            image[int(rng.integers(4))] = 0
        regions = torch.from_numpy(labels_to_regions(tissue_to_labels(tissue)).astype(np.float32))
        crop = self._crop(tissue, rng)
        return image[(slice(None), *crop)].contiguous(), regions[(slice(None), *crop)].contiguous()

    def _crop(self, tissue: npt.NDArray[np.uint8], rng: np.random.Generator) -> tuple[slice, ...]:
        """The whole volume now and then, else a box around a voxel of disease or of anything."""
        if rng.random() < 0.2:
            return tuple(slice(0, n) for n in tissue.shape)
        size = [int(rng.choice((48, 64, 80))) for _ in range(3)]
        sick = np.argwhere(tissue_to_labels(tissue) > 0)
        centre = sick[rng.integers(len(sick))] if len(sick) and rng.random() < 0.7 else rng.integers(tissue.shape)
        starts = [
            int(np.clip(c - rng.integers(s // 4, 3 * s // 4 + 1), 0, n - s))
            for c, s, n in zip(centre, size, tissue.shape, strict=True)
        ]
        return tuple(slice(start, start + s) for start, s in zip(starts, size, strict=True))


def _tissue(rng: np.random.Generator, spacing: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """Draw a tissue map; one in ten has no tumour, because a brain without one must stay unmarked."""
    if rng.random() < 0.1:
        tissue = anatomy(rng, VOLUME, spacing)
    else:
        tissue = tumour_map(
            rng, PhantomSpec(size=VOLUME, spacing=spacing, severity=REGIMES[rng.integers(len(REGIMES))])
        )
    return add_vessels(tissue, rng, spacing)


def add_vessels(
    tissue: npt.NDArray[np.uint8], rng: np.random.Generator, spacing: tuple[float, float, float]
) -> npt.NDArray[np.uint8]:
    """Return the map with what enhances without being tumour: choroid plexus, dural sinuses, thick vessels."""

    def field(wavelength: float) -> npt.NDArray[np.float32]:
        return smooth_field(rng, tissue.shape, spacing, wavelength)  # type: ignore[arg-type]

    brain = tissue != Tissue.AIR
    depth = ndimage.distance_transform_edt(brain, sampling=spacing)
    plexus = (tissue == Tissue.CSF) & (depth > 14) & (field(12) > rng.uniform(0.3, 1.6))
    sinus = brain & (depth < rng.uniform(2, 7)) & (field(30) > rng.uniform(1.0, 2.5))
    width = rng.uniform(0.08, 0.2)
    tube = (np.abs(field(28)) < width) & (np.abs(field(28)) < width) & (tissue != Tissue.WHITE)
    grown = tissue.copy()
    grown[(plexus | sinus | tube) & brain & (tissue < Tissue.EDEMA)] = Tissue.VESSEL
    return grown


def random_contrast(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw tissue contrasts `(4, tissues)` wider than any protocol: only what defines a lesion is kept.

    Oedema and core are brighter on t2f than healthy tissue, and a rim brightens after contrast; how a lesion looks
    on the other sequences is free, because real ones are now dark, now equal to their surroundings.
    """
    table = contrast_table(rng, rng.uniform(0.02, 0.1))
    if rng.random() < 0.25:
        return table
    t1n, t1c, t2w, t2f = table
    white, grey = Tissue.WHITE, Tissue.GREY
    t2f[grey] = t2f[white] + rng.uniform(-0.03, 0.2)
    t2f[Tissue.NUCLEUS] = t2f[white] + rng.uniform(-0.03, 0.18)
    healthy = max(t2f[white], t2f[grey], t2f[Tissue.NUCLEUS])
    t2f[Tissue.CSF] = rng.uniform(0.04, 0.35)
    t1n[Tissue.VESSEL] = rng.uniform(0.15, 0.9)
    t1c[Tissue.VESSEL] = t1n[Tissue.VESSEL] + rng.uniform(0.0, 0.7)
    t2w[Tissue.VESSEL] = rng.uniform(0.05, 0.8)
    t2f[Tissue.VESSEL] = rng.uniform(0.1, healthy + 0.05)
    for lesion in (Tissue.EDEMA, Tissue.CORE, Tissue.NECROSIS):
        t1n[lesion] = rng.uniform(0.2, t1n[white] + 0.03)
        t1c[lesion] = t1n[lesion] + rng.uniform(-0.03, 0.1)
        t2w[lesion] = rng.uniform(t2w[white] + 0.02, 1.0)
    t2f[Tissue.EDEMA] = healthy + rng.uniform(0.06, 0.4)
    t2f[Tissue.CORE] = healthy + rng.uniform(-0.05, 0.45)
    t2f[Tissue.NECROSIS] = rng.uniform(0.1, healthy + 0.4)
    t1n[Tissue.ENHANCING] = rng.uniform(0.25, t1n[white] + 0.1)
    t1c[Tissue.ENHANCING] = max(t1n[Tissue.ENHANCING] + rng.uniform(0.12, 0.5), t1c[white] + rng.uniform(0.03, 0.4))
    t2w[Tissue.ENHANCING] = rng.uniform(t2w[white], 0.95)
    t2f[Tissue.ENHANCING] = healthy + rng.uniform(-0.05, 0.45)
    return np.clip(table, 0.02 * (np.arange(len(Tissue)) > 0), None).astype(np.float32)


def healthy_variation(
    tissue: npt.NDArray[np.uint8], rng: np.random.Generator, spacing: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Draw a factor `(4, H, W, D)` near 1 that makes healthy tissue uneven, so that uneven is not yet a lesion."""
    step = (spacing[0], spacing[1], spacing[2])
    strength = np.zeros(len(Tissue), dtype=np.float32)
    strength[[Tissue.GREY, Tissue.NUCLEUS, Tissue.CSF, Tissue.VESSEL]] = rng.uniform(0, 0.2)
    strength[Tissue.WHITE] = rng.uniform(0, 0.08)
    strength[Tissue.EDEMA :] = rng.uniform(0, 0.12)
    fields = np.stack([smooth_field(rng, tissue.shape, step, rng.uniform(8, 40)) for _ in SEQUENCES])  # type: ignore[arg-type]
    factor = np.exp(strength[tissue] * fields)
    if rng.random() < 0.4:
        edge = (tissue != Tissue.AIR) & ~ndimage.binary_erosion(tissue != Tissue.AIR)
        factor[:, edge] *= rng.uniform(0.5, 1.7, size=(4, 1)).astype(np.float32)
    return np.asarray(factor, dtype=np.float32)


def train_starter(config: AppConfig, out: Path, *, steps: int = 5500, seed: int = 0, workers: int = 1) -> Path:
    """Train the starter weights and write them, with a checkpoint every 500 steps.

    The weights written are the exponential moving average of the trained ones.

    Args:
        config: network and preprocessing.
        out: the weight file.
        steps: optimisation steps, one sample each.
        seed: seed of everything.
        workers: processes that make phantoms.

    Returns:
        `out`.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(config.network).to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = deepcopy(network)
    loss_function, _ = build_loss("dice_ce")
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.05)
    loader = DataLoader(
        PhantomStream(config, seed), batch_size=1, num_workers=workers, prefetch_factor=4 if workers else None
    )
    running, started = 1.0, time.monotonic()
    bar = tqdm(zip(range(1, steps + 1), loader, strict=False), total=steps, desc="starter", disable=None)
    for step, (image, regions) in bar:
        loss = optimize(network, loss_function, optimizer, image.to(device), regions.to(device), [])
        schedule.step()
        running += 0.01 * (loss - running)
        follow(average, network, min(0.999, step / (step + 10)))
        if step % 100 == 0:
            bar.set_postfix(loss=f"{running:.3f}")
            logger.info("starter step %d loss %.4f minutes %.1f", step, running, (time.monotonic() - started) / 60)
        if step % 500 == 0 or step == steps:
            info = {"name": "starter", "steps": step, "planned_steps": steps, "seed": seed, "loss": running}
            save_weights(out, average, config.network, config.preprocessing, info, half=True)
    return out

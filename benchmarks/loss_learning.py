"""How fast losses learn small lesions: a few steps of each on the same few crops, from the same weights.

Crops around white-matter lesions are drawn once, from synthetic heads; then a copy of the starter (or of random
weights) is trained on them by each loss in turn, and the Dice of the whole tumour at 0.5 is printed as it goes, a mean
over the last round of crops. A loss that cannot fit four crops will not learn from a million. Run as
`python benchmarks/loss_learning.py [--losses NAME ...] [--steps N] [--crops N] [--seed S] [--random] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.config import AppConfig, load_config
from rarevoxel.evaluation import dice
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network, load_weights
from rarevoxel.phantom.scene import draw_scene
from rarevoxel.training.phantom_stream import PhantomStream, Sample, StreamSpec
from rarevoxel.training.starter import LEARNING_RATE
from rarevoxel.training.step import optimize

LOSSES = ("dice_ce", "dice+log_dice+ce", "dice", "log_dice+top_k", "dice_top_k", "dice_hard_negative", "ce", "focal")
EDGE = 96
WHOLE = 0
"""Channel of the whole tumour."""


def draw_crops(config: AppConfig, count: int, seed: int) -> list[Sample]:
    """Draw crops of heads with white-matter lesions, each around one, with all sequences and mild faults."""
    spec = StreamSpec(
        edges=((EDGE,),) * 3,
        large_share=0,
        diseased_share=1,
        coarse_share=0,
        strength=(0.1, 0.4),
        missing=(1,),
        emptied_share=0,
    )
    stream = PhantomStream(config, seed, count, 0, spec)
    rng = np.random.default_rng(seed)
    crops: list[Sample] = []
    while len(crops) < count:
        scene = draw_scene(rng, stream.head_shape, stream.spacing, "white_matter")
        image, regions = stream.view(*stream.examination(scene, rng), rng)
        if regions[WHOLE].any():
            crops.append((image[None], regions[None]))
    return crops


def learn(network: nn.Module, loss: str, crops: Sequence[Sample], steps: int) -> list[float]:
    """Train a network on the crops in turn; returns the mean Dice of each round, before its steps."""
    function, _ = build_loss(loss)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    found: list[float] = []
    for step in range(steps):
        image, regions = crops[step % len(crops)]
        found.append(whole_dice(network, image, regions))
        optimize(network, function, optimizer, image, regions, [])
    return [float(np.mean(found[i : i + len(crops)])) for i in range(0, steps, len(crops))]


@torch.no_grad()
def whole_dice(network: nn.Module, image: torch.Tensor, regions: torch.Tensor) -> float:
    """Return the Dice of the whole tumour, marked where its probability is above 0.5."""
    marked, truth = network(image)[0, WHOLE] > 0, regions[0, WHOLE] > 0
    return dice(marked.numpy(), truth.numpy())


def main(argv: Sequence[str] | None = None) -> int:
    """Train by each loss and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), metavar="NAME")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="from random weights, not from the starter")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    config = load_config(bundled_app() / "app.toml")
    torch.manual_seed(args.seed)
    start = build_network(config.network) if args.random else load_weights(bundled_app() / "starter" / "starter.pt")[0]
    start = start.train().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    crops = draw_crops(config, args.crops, args.seed)
    rounds = {
        name: learn(deepcopy(start), name, crops, args.steps)
        for name in tqdm(args.losses, desc="losses", unit="loss", disable=None)
    }
    if args.json:
        told = {"crops": args.crops, "steps": args.steps, "seed": args.seed, "random": args.random, "dice": rounds}
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    voxels = ", ".join(str(int(regions[0, WHOLE].sum())) for _, regions in crops)
    sys.stdout.write(f"{args.crops} crops of {EDGE}^3 with {voxels} voxels of lesions; mean Dice in each round\n")
    for name, values in rounds.items():
        sys.stdout.write(f"{name:22s} {' '.join(f'{value:.2f}' for value in values)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

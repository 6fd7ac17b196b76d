"""The U-Net of a configuration, over blocks of voxels, in the layout convolutions are fast in."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import DynUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn import functional

from rarevoxel.config import NetworkConfig


class ShuffledUNet(DynUNet):
    """A U-Net that sees blocks of voxels as channels, so that fine masks cost what coarse ones do.

    Voxel `(h, w, d)` of a block of `factor^3` becomes a channel of a grid of `1 / factor` the size, and each logit
    channel a voxel again (sub-voxel convolution). With factor 1 it is the plain network.

    Args:
        factor: edge of a block.
        arguments: of MONAI's `DynUNet`; channels count those of whole blocks.

    References:
        Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
        network, CVPR 2016, doi:10.1109/CVPR.2016.207. Here in 3-D, and for logits.
    """

    def __init__(self, factor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits `(B, R, H, W, D)` of an image `(B, C, H, W, D)`."""
        device = image.device.type
        if torch.is_autocast_enabled(device):  # The first convolution would do it, after what moves the voxels about.
            image = image.to(torch.get_autocast_dtype(device))
        if self.factor == 1:
            return torch.as_tensor(super().forward(image.contiguous(memory_format=torch.channels_last_3d)))
        packed = pixelunshuffle(image, 3, self.factor).contiguous(memory_format=torch.channels_last_3d)
        return torch.as_tensor(pixelshuffle(super().forward(packed), 3, self.factor))


class LastChannelsNorm(nn.InstanceNorm3d):
    """Instance normalisation in the layout convolutions are fast in, channels last, on a CPU.

    torch's own turns everything over, and the next convolution turns it back. Batch normalisation of one sample is the
    same, `(x - mean) / sqrt(var + eps) weight + bias`, and knows that layout: three to ten times as fast, forward and
    backward, and as exact in bfloat16. In float32 it is right to about 1e-4 of the standard deviation only, as it adds
    up in float32: enough for a prediction, but two trainings would part, so they take torch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalised `(B, C, H, W, D)`."""
        exact = input.dtype in (torch.float32, torch.float64) and torch.is_grad_enabled()
        if exact or input.device.type != "cpu":
            return super().forward(input)
        samples = [
            functional.batch_norm(one, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for one in torch.split(input, 1)
        ]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


def use_norm(network: nn.Module, kind: type[nn.InstanceNorm3d]) -> None:
    """Put instance normalisation of another kind in place of every one of a network; weights are kept.

    Args:
        network: changed in place.
        kind: `LastChannelsNorm`, or `torch.nn.InstanceNorm3d` for what MONAI builds.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.InstanceNorm3d):
                norm = kind(child.num_features, eps=child.eps, affine=True)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm.train(child.training))


def build_network(config: NetworkConfig, *, in_channels: int = 4, out_channels: int = 3) -> nn.Module:
    """Return a U-Net with instance normalisation: logits `(B, out_channels, H, W, D)` from `(B, in_channels, H, W, D)`.

    Spatial sizes must be multiples of `config.multiple`.
    """
    levels = len(config.filters)
    block = config.shuffle**3
    network: nn.Module = ShuffledUNet(
        config.shuffle,
        spatial_dims=3,
        in_channels=in_channels * block,
        out_channels=out_channels * block,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(config.filters),
        norm_name=("INSTANCE", {"affine": True}),
    )
    use_norm(network, LastChannelsNorm)
    return network


def block_edge(network: nn.Module) -> int:
    """Return the edge of the largest blocks of voxels that a network sees as one, 1 where it sees every voxel."""
    return max((part.factor for part in network.modules() if isinstance(part, ShuffledUNet)), default=1)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the floating-point type convolutions gain from on `device`: bfloat16 where the hardware has it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if capable() else torch.float32

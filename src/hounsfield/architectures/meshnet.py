"""MeshNet (Fedorov 2017): a column of dilated convolutions at full resolution, and a 1x1x1 head.

The networks of the brainchop project are of this kind. Two forms are published: with biases and
without a norm (TensorFlow.js), and without biases, each convolution followed by a normalisation of
every channel over the whole volume (``norm = "instance"``, no learned scale).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "gelu": nn.GELU, "relu": nn.ReLU}
_NORMS = ("none", "instance")


class MeshNet(nn.Module):
    """(batch, channels_in, k, j, i) to logits (batch, channels_out, k, j, i), any spatial size."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        filters: int,
        dilations: Sequence[int],
        activation: str,
        norm: str,
    ) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            nn.Conv3d(
                filters if n else channels_in,
                filters,
                3,
                padding=dilation,
                dilation=dilation,
                bias=norm == "none",
            )
            for n, dilation in enumerate(dilations)
        )
        self.norm = nn.InstanceNorm3d(filters) if norm == "instance" else nn.Identity()
        self.activation = _ACTIVATIONS[activation]()
        self.head = nn.Conv3d(filters, channels_out, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits per voxel."""
        for convolution in self.hidden:
            image = self.activation(self.norm(convolution(image)))
        logits: Tensor = self.head(image)
        return logits


def meshnet(
    channels_in: int,
    channels_out: int,
    filters: int,
    dilations: list[int],
    activation: str = "elu",
    norm: str = "none",
) -> nn.Module:
    """The network; one hidden convolution for each of ``dilations``."""
    if activation not in _ACTIVATIONS or norm not in _NORMS:
        raise ValueError(f"activation is one of {', '.join(_ACTIVATIONS)}, norm one of {', '.join(_NORMS)}")
    if not dilations or min(dilations) < 1 or filters < 1:
        raise ValueError("dilations are whole numbers from 1, and filters is at least 1")
    return MeshNet(channels_in, channels_out, filters, dilations, activation, norm)

"""Vision transformers: UNETR and SwinUNETR for segmentation, ViT for 2-D classes (MONAI's networks)."""

from __future__ import annotations

from torch import Tensor, nn


def unetr(
    channels_in: int,
    channels_out: int,
    window: list[int],
    feature_size: int = 16,
    hidden_size: int = 768,
    mlp_size: int = 3072,
    heads: int = 12,
) -> nn.Module:
    """UNETR (Hatamizadeh 2022): a ViT over 16x16x16 patches with a convolutional decoder.

    ``window`` (k, j, i) is part of the network (learned positions); each size divides by 16.
    """
    from monai.networks.nets import UNETR

    _divides(window, 16, "UNETR")
    network: nn.Module = UNETR(
        in_channels=channels_in,
        out_channels=channels_out,
        img_size=tuple(window),
        feature_size=feature_size,
        hidden_size=hidden_size,
        mlp_dim=mlp_size,
        num_heads=heads,
    )
    return _without_unused(network)


def swin_unetr(
    channels_in: int,
    channels_out: int,
    window: list[int],
    feature_size: int = 24,
    depths: list[int] | None = None,
    heads: list[int] | None = None,
) -> nn.Module:
    """SwinUNETR (Hatamizadeh 2022): shifted-window attention; each size of ``window`` divides by 32.

    ``feature_size`` divides by 12. The window is fixed in the exported graph.
    """
    from monai.networks.nets import SwinUNETR

    _divides(window, 32, "SwinUNETR")
    if max(window) < 64:
        raise TypeError("one size of the window of SwinUNETR is at least 64, else its deepest level is one voxel")
    network: nn.Module = SwinUNETR(
        in_channels=channels_in,
        out_channels=channels_out,
        feature_size=feature_size,
        depths=tuple(depths or (2, 2, 2, 2)),
        num_heads=tuple(heads or (3, 6, 12, 24)),
    )
    return network


def vit_classifier(
    channels_in: int,
    channels_out: int,
    window: list[int],
    patch: int = 16,
    hidden_size: int = 384,
    mlp_size: int = 1536,
    layers: int = 12,
    heads: int = 6,
) -> nn.Module:
    """ViT (Dosovitskiy 2021, by default ViT-S/16) for an image (batch, channels, 1, j, i) of fixed size."""
    from monai.networks.nets import ViT

    if len(window) != 3 or window[0] != 1 or any(n % patch for n in window[1:]):
        raise TypeError(f"the window of a 2-D ViT is [1, j, i] with j and i multiples of {patch}, not {window}")

    class FlatViT(ViT):
        """MONAI's ViT for (batch, channels, 1, j, i); answers only the class logits."""

        def forward(self, image: Tensor) -> Tensor:
            """Logits (batch, classes)."""
            logits: Tensor = super().forward(image.flatten(1, 2))[0]
            return logits

    network = FlatViT(
        in_channels=channels_in,
        img_size=tuple(window[1:]),
        patch_size=patch,
        hidden_size=hidden_size,
        mlp_dim=mlp_size,
        num_layers=layers,
        num_heads=heads,
        classification=True,
        num_classes=channels_out,
        spatial_dims=2,
        post_activation=None,
    )
    return _without_unused(network)


def _without_unused(network: nn.Module) -> nn.Module:
    """Drop the norms that MONAI makes for a cross-attention that is off: weights that nothing reads."""
    for module in list(network.modules()):
        if getattr(module, "with_cross_attention", True) is False:
            module.norm_cross_attn = nn.Identity()
    return network


def _divides(window: list[int], by: int, name: str) -> None:
    if len(window) != 3 or any(n < by or n % by for n in window):
        raise TypeError(f"the window of {name} is three multiples of {by}, not {window}")

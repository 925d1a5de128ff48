"""Grad-CAM (Selvaraju 2017): where the last feature maps speak for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_INTERPOLATION = {3: "linear", 4: "bilinear", 5: "trilinear"}


def activation_map(
    network: nn.Module, layer: str, image: NDArray[np.float32], number: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The Grad-CAM of one logit, and all logits.

    Each feature map of ``layer`` is weighed by the mean over space of the logit's derivative with respect to
    it; the sum's positive part is enlarged linearly to the image. It is not scaled: values are in
    logits per mean activation, and compare within one image only.

    Parameters
    ----------
    network
        In evaluation mode; its gradients are left as they were.
    layer
        Dotted name of the module whose answer (batch, features, ...) is looked at.
    image
        (channels, k, j, i) float32, what the network sees.
    number
        Of the logit, from 0.

    Returns
    -------
    (k, j, i) float32, at least 0 everywhere; and the logits (classes,).
    """
    kept: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda module, given, answer: kept.append(answer))
    try:
        with torch.enable_grad():
            seen = torch.from_numpy(image)[None].requires_grad_(True)
            logits = network(seen)
            (slope,) = torch.autograd.grad(logits[0, number], kept[0])
    finally:
        hook.remove()
    features = kept[0].detach()
    space = tuple(range(2, features.dim()))
    weights = slope.mean(space, keepdim=True)
    found = F.relu((weights * features).sum(1, keepdim=True))
    size = image.shape[-len(space) :]
    large = F.interpolate(found, size, mode=_INTERPOLATION[found.dim()], align_corners=False)[0, 0]
    flat: NDArray[Any] = large.numpy().reshape(image.shape[1:] if len(space) == 3 else (1, *size))
    return np.asarray(flat, np.float32), logits.detach()[0].numpy()

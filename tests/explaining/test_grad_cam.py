"""Grad-CAM against a network whose map is known exactly, and against MONAI's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hounsfield.architectures import build
from hounsfield.explaining import activation_map

pytestmark = pytest.mark.torch


class Known(nn.Module):
    """Two feature maps, the image and its negative, and a linear head over their means."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, 2)."""
        logits: Tensor = self.head(self.features(image[:, 0]).mean((2, 3)))
        return logits


def test_the_map_is_what_the_formula_says() -> None:
    """With weights w over n pixels: relu(w1 x / n - w2 x / n), so 2 x / n where x > 0 for the first logit."""
    image = np.zeros((1, 1, 4, 5), np.float32)
    image[0, 0, 1, 2], image[0, 0, 3, 4] = 7.0, -5.0
    network = Known().eval()
    first, logits = activation_map(network, "features", image, 0)
    assert logits == pytest.approx([2 * 2 / 20, -2 * 2 / 20])
    np.testing.assert_allclose(first, np.maximum(2 * image[0] / 20, 0), atol=1e-7)
    second, _ = activation_map(network, "features", image, 1)
    np.testing.assert_allclose(second, np.maximum(-2 * image[0] / 20, 0), atol=1e-7)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_equals_monais() -> None:
    """The same densely connected network, two logits, before MONAI scales its map."""
    from monai.visualize import GradCAM

    torch.manual_seed(3)
    description = {
        "name": "densenet121", "channels_in": 1, "channels_out": 2,
        "init_features": 8, "growth_rate": 4, "blocks": [2, 2],
    }  # fmt: skip
    network = build(description).eval()
    image = torch.rand(1, 1, 1, 48, 40)

    class Flat(nn.Module):
        """MONAI looks for the image's axes in the input, so it is given no slice axis."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, flat: Tensor) -> Tensor:
            """Logits."""
            logits: Tensor = self.inner(flat[:, :, None])
            return logits

    peer = GradCAM(Flat().eval(), "inner.class_layers.relu", postprocessing=lambda values: values)
    largest = []
    for number in (0, 1):
        ours, logits = activation_map(network, "class_layers.relu", image[0].numpy(), number)
        theirs = peer(image[:, :, 0], class_idx=number)
        np.testing.assert_allclose(ours, torch.as_tensor(theirs)[0].detach().numpy(), atol=1e-6 * max(1.0, ours.max()))
        largest.append(ours.max())
        assert logits == pytest.approx(network(image)[0].detach().numpy(), abs=1e-6)
    assert max(largest) > 0

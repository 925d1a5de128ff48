"""CNN-LSTM for dynamic sequences: an encoder per phase, an LSTM over the phases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hounsfield.architectures.encoder import Encoder


class CnnLstm(nn.Module):
    """(batch, phases, channels, k, j, i) to logits (batch, classes).

    The same encoder sees each phase; the LSTM (Hochreiter 1997) reads the features in the order
    of time; its last state and the mean over phases together decide.
    """

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels_out: int,
        filters: Sequence[int],
        hidden_size: int,
        normed: bool,
        middle: bool,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(dims, channels_in, filters, normed, middle)
        self.memory = nn.LSTM(filters[-1], hidden_size, batch_first=True)
        self.head = nn.Linear(2 * hidden_size, channels_out)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        phases = image.shape[1]
        features: Tensor = self.encoder(image.flatten(0, 1))
        states, _ = self.memory(features.reshape(-1, phases, features.shape[1]))
        logits: Tensor = self.head(torch.cat((states[:, -1], states.mean(1)), 1))
        return logits


def cnn_lstm(
    channels_in: int,
    channels_out: int,
    filters: list[int],
    hidden_size: int = 64,
    spatial_dims: int = 2,
    normed: bool = True,
    middle: bool = False,
) -> nn.Module:
    """The network; ``filters`` are the encoder's channels per level.

    Instance norms (``normed``) remove the mean of a phase over the window: where the size of the signal is
    what counts, as in a curve of contrast medium, they are left out. ``middle`` looks at the middle of the
    window instead of the mean over it.
    """
    return CnnLstm(spatial_dims, channels_in, channels_out, filters, hidden_size, normed, middle)

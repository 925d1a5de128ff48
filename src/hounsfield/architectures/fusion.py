"""Images and a record in one network: an encoder per image channel, a small network for the table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hounsfield.architectures.encoder import Encoder


class Fusion(nn.Module):
    """``image`` (batch, channels, k, j, i) and ``record`` (batch, columns) to logits (batch, classes).

    Each channel (PET, CT ...) has its own encoder. A missing value of the record is NaN: it
    counts as the training mean, and an indicator tells the network that it was missing.
    ``record_mean`` and ``record_std`` are properties of the training set, kept with the weights.
    """

    record_mean: Tensor
    record_std: Tensor

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels_out: int,
        filters: Sequence[int],
        columns: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if columns < 1 or channels_in < 0:
            raise TypeError("columns is at least 1, and channels_in not negative")
        self.branches = nn.ModuleList(Encoder(dims, 1, filters) for _ in range(channels_in))
        self.register_buffer("record_mean", torch.zeros(columns))
        self.register_buffer("record_std", torch.ones(columns))
        self.table = nn.Sequential(
            nn.Linear(2 * columns, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        joined = len(self.branches) * (filters[-1] if filters else 0) + hidden_size
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(joined, channels_out))

    def forward(self, image: Tensor, record: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        missing = torch.isnan(record)
        known = torch.where(missing, torch.zeros_like(record), (record - self.record_mean) / self.record_std)
        arms = [self.table(torch.cat((known, missing.to(known.dtype)), 1))]
        arms += [branch(image[:, n : n + 1]) for n, branch in enumerate(self.branches)]
        logits: Tensor = self.head(torch.cat([arm.to(arms[0].dtype) for arm in arms], 1))
        return logits


def fusion(
    channels_in: int,
    channels_out: int,
    columns: int,
    filters: list[int] | None = None,
    hidden_size: int = 32,
    spatial_dims: int = 3,
    dropout: float = 0.1,
) -> nn.Module:
    """The network; ``columns`` of the record, ``filters`` of each image encoder (0 channels: table alone)."""
    return Fusion(spatial_dims, channels_in, channels_out, filters or [16, 32, 64, 128], columns, hidden_size, dropout)

"""A residual image encoder that answers one feature vector; the image arm of the combined networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hounsfield.architectures.residual_unet import ResidualUnit


class Encoder(nn.Module):
    """(batch, channels, k, j, i) to (batch, filters[-1]): residual units, then the mean over space.

    With ``dims = 2`` the slices are taken as channels, so k is 1 for an image. Without ``normed`` the size of
    the signal is kept, which instance norms would remove. With ``middle`` the features are those of the
    place in the middle instead of the mean.
    """

    def __init__(
        self, dims: int, channels_in: int, filters: Sequence[int], normed: bool = True, middle: bool = False
    ) -> None:
        super().__init__()
        if dims not in (2, 3) or not filters:
            raise TypeError("spatial_dims is 2 or 3, and filters has at least one level")
        before = [channels_in, *filters[:-1]]
        self.levels = nn.Sequential(
            *[ResidualUnit(dims, before[n], filters[n], 1 if n == 0 else 2, normed) for n in range(len(filters))]
        )
        self._flat, self._middle = dims == 2, middle

    def forward(self, image: Tensor) -> Tensor:
        """Features (batch, filters[-1])."""
        features: Tensor = self.levels(image.flatten(1, 2) if self._flat else image)
        if self._middle:
            for _ in features.shape[2:]:
                features = features[:, :, features.shape[2] // 2]
            return features
        return features.flatten(2).mean(2)

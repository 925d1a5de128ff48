"""In the jail: MONAI's own class with the bundle's own arguments against our network of the closed list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import monai
import numpy as np
import torch
from monai.networks import nets
from numpy.typing import NDArray
from torch import nn

from hounsfield.importing.draft import Parity
from hounsfield.importing.monai.configs import NETWORKS


def against_monai(
    table: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], network: nn.Module, window: tuple[int, int, int]
) -> Parity:
    """The largest difference on noise; ``table`` was checked by ``read_network``, its target is of the list."""
    target = str(table["_target_"])
    if target not in NETWORKS:
        raise ValueError("the target is not on the list")
    arguments = {name: value for name, value in table.items() if not name.startswith("_")}
    theirs = getattr(nets, target)(**{"spatial_dims": 3, **arguments})
    own = theirs.state_dict()
    theirs.load_state_dict(
        {name: torch.from_numpy(np.array(arrays[name])) if name in arrays else own[name] for name in own}
    )
    theirs.float().eval()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn((1, int(arguments.get("in_channels", 1)), *window), generator=generator)
    with torch.inference_mode():
        expected, found = theirs(image), network(image)
    scale = max(float(expected.abs().max()), 1e-6)
    difference = float((expected - found).abs().max()) / scale
    return Parity(f"MONAI {monai.__version__} {target}", difference)

"""MONAI bundles written by MONAI's own tools: a network shortly trained, configurations, a state_dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser, init_bundle
from monai.data import MetaTensor
from numpy.typing import NDArray

NETWORKS: dict[str, dict[str, Any]] = {
    "segresnet": {
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "init_filters": 8,
        "in_channels": 1,
        "out_channels": 3,
        "blocks_down": [1, 1, 1],
        "blocks_up": [1, 1],
    },
    "unet": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [8, 16, 32],
        "strides": [2, 2],
        "num_res_units": 1,
        "norm": "batch",
    },
}
CHANNELS = {"0": "background", "1": "Anterior hippocampus", "2": "Posterior hippocampus"}
LABELS = ["Anterior hippocampus", "Posterior hippocampus"]


def config(network: Mapping[str, Any]) -> dict[str, Any]:
    """Components of an inference configuration that are read."""
    keys = {"keys": "image"}
    return {
        "network_def": dict(network),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **keys},
                {"_target_": "EnsureChannelFirstd", **keys},
                {"_target_": "Orientationd", **keys, "axcodes": "RAS"},
                {"_target_": "NormalizeIntensityd", **keys, "nonzero": True, "channel_wise": True},
                {"_target_": "EnsureTyped", **keys},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [32, 32, 32],
            "sw_batch_size": 2,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }


def resampling(table: dict[str, Any], back: bool | None, first: bool) -> dict[str, Any]:
    """The same configuration with ``Spacingd``, and ``Invertd`` by the nearest voxel or not (None: after AsDiscreted).

    With ``first`` the scan is resampled before the intensities are normalised.
    """
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.3, 0.8, 1.15], "mode": "bilinear"}
    before, after = table["preprocessing"]["transforms"], table["postprocessing"]["transforms"]
    before.insert(3 if first else 4, spacing)
    inverted = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
    after.insert(2 if back is None else 1, {**inverted, "nearest_interp": back is not False, "to_tensor": True})
    return table


def write_bundle(
    folder: Path, name: str, cases: list[tuple[Path, Path]], steps: int, changed: dict[str, Any] | None = None
) -> Path:
    """A bundle by ``monai.bundle.init_bundle``, its configuration completed, its network trained for some steps."""
    torch.manual_seed(0)
    table = config(NETWORKS[name])
    network = ConfigParser({"network": table["network_def"]}).get_parsed_content("network")
    _train(network, table, cases, steps)
    init_bundle(str(folder), network=network)
    path = folder / "configs" / "inference.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, **(changed or table)}, indent=1))
    metadata = folder / "configs" / "metadata.json"
    stated = json.loads(metadata.read_text())
    stated["network_data_format"] = {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [32, 32, 32], "channel_def": {"0": "image"}}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": CHANNELS}},
    }
    metadata.write_text(json.dumps(stated, indent=1))
    return folder


def _train(network: torch.nn.Module, table: Mapping[str, Any], cases: list[tuple[Path, Path]], steps: int) -> None:
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    for step in range(steps):
        image, labels = cases[step % len(cases)]
        values = prepared(table, image)
        wanted = torch.from_numpy(np.asarray(nib.as_closest_canonical(nib.load(labels)).dataobj).astype(np.int64))[None]
        crop = tuple(slice(0, 8 * (n // 8)) for n in wanted.shape[1:])
        weight = torch.tensor([0.2, 1.0, 1.0])
        loss = torch.nn.functional.cross_entropy(
            network(values[(slice(None), slice(None), *crop)]), wanted[(slice(None), *crop)], weight
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


def prepared(table: Mapping[str, Any], image: Path) -> torch.Tensor:
    """MONAI's own preprocessing of a case: (1, 1, x, y, z)."""
    transforms = ConfigParser({"preprocessing": table["preprocessing"]}).get_parsed_content("preprocessing")
    return transforms({"image": str(image)})["image"].as_tensor()[None]


def monai_labels(folder: Path, image: Path) -> NDArray[np.uint8]:
    """What MONAI itself answers with the bundle, (x, y, z) along RAS."""
    table = json.loads((folder / "configs" / "inference.json").read_text())
    parser = ConfigParser({key: table[key] for key in ("network_def", "inferer", "preprocessing")})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    network.eval()
    with torch.inference_mode():
        logits = parser.get_parsed_content("inferer")(prepared(table, image), network)
    return logits.argmax(1)[0].numpy().astype(np.uint8)


def monai_labels_of_the_scan(folder: Path, image: Path) -> NDArray[np.uint8]:
    """What MONAI itself answers on the scan's own grid, its postprocessing with ``Invertd`` included."""
    table = json.loads((folder / "configs" / "inference.json").read_text())
    parser = ConfigParser({key: table[key] for key in ("network_def", "inferer", "preprocessing", "postprocessing")})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    network.eval()
    data = parser.get_parsed_content("preprocessing")({"image": str(image)})
    with torch.inference_mode():
        answer = parser.get_parsed_content("inferer")(data["image"].as_tensor()[None], network)[0]
    data["pred"] = MetaTensor(answer, meta=data["image"].meta, applied_operations=data["image"].applied_operations)
    found = parser.get_parsed_content("postprocessing")(data)["pred"]
    return np.asarray(found[0].numpy()).astype(np.uint8)

"""The plain parts of a MONAI bundle, for tests that need no MONAI."""

from __future__ import annotations

from typing import Any


def bundle_config() -> dict[str, Any]:
    """An inference configuration that is read as it is."""
    return {
        "imports": ["$import glob"],
        "device": "$torch.device('cpu')",
        "network_def": {
            "_target_": "SegResNet",
            "spatial_dims": 3,
            "init_filters": 8,
            "in_channels": 1,
            "out_channels": 2,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "NormalizeIntensityd", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }


def bundle_metadata() -> dict[str, Any]:
    """The metadata that goes with it."""
    return {
        "version": "0.0.1",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1}},
            "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "lesion"}}},
        },
    }

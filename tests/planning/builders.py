"""Needs, offers and machines for the planning tests."""

from hounsfield.planning import Calibration, CalibrationKey, GraphCost, Machine, Need, Offer

WINDOW = (96, 96, 96)
VOXELS = 96**3
MACHINE = Machine("Test CPU", 2, 24 * 2**30, 20 * 2**30, frozenset({"amx_bf16", "avx512f"}))


def graph(bytes_per_voxel: int = 500, weights: int = 120_000_000) -> GraphCost:
    return GraphCost(
        voxels=VOXELS,
        input_bytes=VOXELS * 4,
        weights_bytes=weights,
        live_bytes=VOXELS * bytes_per_voxel,
        arena_bytes=int(VOXELS * bytes_per_voxel * 1.2),
        total_bytes=VOXELS * bytes_per_voxel * 4,
        operations=10**12,
    )


def need(slices: int = 200, classes: int = 3, **changes: object) -> Need:
    values: dict[str, object] = {
        "scan_shape": (slices, 512, 512),
        "grid_shape": (slices, 512, 512),
        "window": WINDOW,
        "overlap": 0.25,
        "classes": classes,
    }
    return Need(**{**values, **changes})  # type: ignore[arg-type]


def calibration(engine: str = "openvino", precision: str = "fp32", **changes: object) -> Calibration:
    values: dict[str, object] = {
        "key": CalibrationKey("0" * 64, engine, precision, "cpu", "Test CPU", 2, WINDOW),
        "process_bytes": 150 * 2**20,
        "load_peak_bytes": 400 * 2**20,
        "loaded_bytes": 250 * 2**20,
        "workspace_bytes": 420 * 2**20,
        "device_bytes": 0,
        "seconds_per_window": 1.8,
        "load_seconds": 1.0,
    }
    return Calibration(**{**values, **changes})  # type: ignore[arg-type]


def offers(**changes: object) -> list[Offer]:
    calibrated = calibration(precision="bf16", seconds_per_window=0.4, workspace_bytes=300 * 2**20)
    return [
        Offer("openvino", "fp32", graph(), fast=True, calibrations={2: calibration()}),
        Offer("openvino", "bf16", graph(), fast=True, calibrations={2: calibrated}),
        Offer("onnxruntime", "fp32", graph(), fast=True),
        Offer("openvino", "int8", graph(weights=30_000_000), fast=True, proven=False),
        Offer("torch", "fp32", graph(), unavailable="torch is not installed (pip install 'hounsfield[train]')"),
    ]

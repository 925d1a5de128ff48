"""What is asked of a plan: the scan, the package, and what each engine offers for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hounsfield.errors import SettingsError
from hounsfield.planning.calibration import Calibration
from hounsfield.planning.graph import GraphCost
from hounsfield.planning.plan import Mode, Precision, Storage

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Need:
    """One run to plan.

    Parameters
    ----------
    scan_shape, scan_itemsize
        Shape (k, j, i) of the scan on its own grid, bytes per stored voxel.
    grid_shape
        Shape (k, j, i) on the network's grid, after resampling.
    channels, classes, features
        Image channels; output channels; input channels of a linear 1×1×1 head, or None where
        the graph does not end in one.
    window, overlap
        The package's window: the only one used unless ``other_windows`` names more, because
        results depend on it.
    labels_itemsize
        Bytes per voxel of the answered label map.
    positions
        The package's rule for window positions.
    precision, engine, device, mode
        Pinned by the user, or None to choose; ``mode`` is never changed on its own, because the
        result depends on it.
    allow_unproven
        Accept a precision without evidence in the package.
    skipping
        The package lets empty windows be skipped.
    weighted
        Labels depend on the sums of the blending weights (a threshold away from the middle).
    """

    scan_shape: Shape
    grid_shape: Shape
    window: Shape
    overlap: float
    classes: int
    channels: int = 1
    features: int | None = None
    scan_itemsize: int = 2
    labels_itemsize: int = 1
    positions: Literal["even", "stride"] = "even"
    other_windows: tuple[Shape, ...] = ()
    precision: Precision | None = None
    engine: str | None = None
    device: str | None = None
    mode: Mode = "window"
    allow_unproven: bool = False
    skipping: bool = False
    weighted: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise SettingsError(f"an overlap of {self.overlap} is not possible", "give a value from 0 to below 1")
        for shape in (self.scan_shape, self.grid_shape, self.window, *self.other_windows):
            if len(shape) != 3 or min(shape) < 1:
                raise SettingsError(f"{shape} is not the shape of a volume", "give three sizes of at least 1")

    @property
    def scan_voxels(self) -> int:
        """Voxels of the scan's own grid."""
        return math.prod(self.scan_shape)

    @property
    def resampled(self) -> bool:
        """Whether the network's grid is another than the scan's (turned axes do not count)."""
        return sorted(self.grid_shape) != sorted(self.scan_shape)

    def padded_grid(self, window: Shape) -> Shape:
        """The network's grid, grown to the window where the scan is smaller."""
        k, j, i = (max(size, edge) for size, edge in zip(self.grid_shape, window, strict=True))
        return k, j, i

    def starts(self, window: Shape) -> tuple[tuple[int, ...], ...]:
        """First voxels of the windows along each axis."""
        grid = self.padded_grid(window)
        return tuple(starts(n, w, self.overlap, self.positions) for n, w in zip(grid, window, strict=True))

    def windows(self, window: Shape) -> int:
        """How many windows cover the grid."""
        return math.prod(len(line) for line in self.starts(window))


def starts(n: int, window: int, overlap: float, positions: str) -> tuple[int, ...]:
    """First voxels of windows along an axis of ``n`` voxels (n is at least ``window``).

    ``"even"`` spreads as many windows as the overlap asks for evenly (nnU-Net), ``"stride"`` steps
    by a fixed number of voxels and moves the last one back (MONAI).
    """
    if n <= window:
        return (0,)
    if positions == "even":
        count = math.ceil((n - window) / (window * (1 - overlap))) + 1
        return tuple(dict.fromkeys(round((n - window) / (count - 1) * index) for index in range(count)))
    step = max(1, int(window * (1 - overlap)))
    return tuple(min(start, n - window) for start in range(0, n - window + step, step))


@dataclass(frozen=True)
class Offer:
    """One engine with one graph of the package: what could run, and what is known of it.

    Parameters
    ----------
    engine, precision, device
        As in ``Plan``.
    graph
        The graph's cost for the package's window.
    proven
        The package holds evidence for this precision.
    batches
        Batch sizes worth trying; on CPUs more than 1 does not help.
    calibrations
        Threads → measurement for the package's window.
    fast
        Whether the precision has its own arithmetic unit here (bf16 on AMX, int8 on VNNI, GPUs).
    unavailable
        Why the engine cannot be used here, or None.
    """

    engine: str
    precision: Precision
    graph: GraphCost
    device: str = "cpu"
    proven: bool = True
    batches: tuple[int, ...] = (1,)
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)
    fast: bool = False
    unavailable: str | None = None


@dataclass(frozen=True)
class WholeOffer:
    """One way to run the whole volume in slabs, predicted by the executor that would do it.

    Parameters
    ----------
    storage
        Type of the activations kept between layers; ``fp32`` is the exact equivalent.
    slab_bytes
        What the executor is told to keep its slabs within.
    slab_depth
        The shallowest slab, in slices at full resolution, that this gives.
    workspace_bytes, spill_bytes, seconds
        Peak above the loaded process; temporary disk space; time.
    """

    engine: str
    precision: Precision
    storage: Storage
    slab_bytes: int
    slab_depth: int
    workspace_bytes: int
    spill_bytes: int
    seconds: float
    threads: int
    proven: bool = True


@dataclass(frozen=True)
class Footprint:
    """Memory of everything but the network: measured coefficients, in bytes per voxel or bytes.

    Parameters
    ----------
    process_bytes
        Engine → resident memory of the process with reading, writing and the engine imported,
        used where no calibration says it.
    outside_bytes
        What the reading and writing rooms add to a calibration's bare engine process.
    read_per_voxel
        Transient bytes per scan voxel while reading, above the scan itself.
    resample_per_voxel
        Transient bytes per network-grid voxel and channel while preparing.
    write_per_voxel
        Transient bytes per scan voxel while results are written.
    """

    process_bytes: Mapping[str, int] = field(
        default_factory=lambda: {"openvino": 190 * 2**20, "onnxruntime": 150 * 2**20, "torch": 480 * 2**20}
    )
    outside_bytes: int = 50 * 2**20
    read_per_voxel: float = 1.0
    resample_per_voxel: float = 4.0
    write_per_voxel: float = 1.0

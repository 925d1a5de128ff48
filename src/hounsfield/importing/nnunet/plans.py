"""A results folder's plan as a frozen value: which steps it takes, on which grid, with which answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.claim import printable
from hounsfield.importing.nnunet.documents import Document, read_document
from hounsfield.importing.nnunet.networks import network_arguments

#: How the named reader turns a file: along its stored axes, or to a fixed orientation.
READERS = {"SimpleITKIO": "", "NibabelIO": "", "NibabelIOWithReorient": "RAS"}
_ANISOTROPY = 3.0
_MOST_LABELS = 1000
_DEFAULT_RESAMPLING = "resample_data_or_seg_to_shape"


@dataclass(frozen=True)
class Labels:
    """Names of the segments in the order of the network's channels, and how they exclude each other.

    ``values`` are nnU-Net's own label values of the segments, which number them otherwise where
    regions are labelled out of order; ``foreground`` are all of its values but background, in order.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: bool
    foreground: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Channels that the network answers."""
        return len(self.names) + (0 if self.regions else 1)


@dataclass(frozen=True)
class Configuration:
    """One configuration of a plan.

    Parameters
    ----------
    name
        ``2d``, ``3d_fullres``, ``3d_lowres`` ...
    channels
        Names of the image channels, as the data set calls them.
    labels
        What the network answers.
    turn
        Order of nnU-Net's axes among the file's (its ``transpose_forward``).
    reader
        The class that read the training files.
    spacing_mm, window
        (k, j, i); 0 keeps the scan's own spacing, and a 2-D window has k = 1.
    interpolation, separate_above
        As in the manifest's ``[input]``.
    intensity, outline
        Per channel: manifest steps, and whether its statistics are those of the filled non-zero outline.
    network
        The ``[architecture]`` table of one member.
    previous
        The configuration whose labels it is given as further channels, in a cascade.
    """

    name: str
    channels: tuple[str, ...]
    labels: Labels
    turn: tuple[int, int, int]
    reader: str
    spacing_mm: tuple[float, float, float]
    window: tuple[int, int, int]
    interpolation: str
    separate_above: float | None
    intensity: tuple[tuple[dict[str, Any], ...], ...]
    outline: tuple[bool, ...]
    network: dict[str, Any]
    previous: str | None = None


def configuration_of(folder: Path, name: str) -> Configuration:
    """The named configuration of ``plans.json`` with the labels of ``dataset.json``.

    Raises
    ------
    SourceRefused
        Naming the key that is of another version, unknown, or does not fit.
    """
    plans, dataset = read_document(folder / "plans.json"), read_document(folder / "dataset.json")
    if "configurations" not in plans:
        raise plans.refuse("configurations", "is missing: these are not the plans of nnU-Net 2")
    configuration = _resolved(plans, name)
    channels, labels = channels_of(dataset), labels_of(dataset)
    _same_version(plans, configuration)
    previous = _previous(configuration)
    interpolation, separate = _resampling(configuration)
    spacing = configuration.numbers("spacing", (2, 3), 1e-3, 1000)
    window = configuration.wholes("patch_size", (2, 3), 1, 1024)
    if len(spacing) != len(window):
        raise configuration.refuse("patch_size", "has another number of axes than spacing")
    intensity, outline = _normalisation(plans, configuration, len(channels))
    flat = len(window) == 2
    return Configuration(
        name=name,
        channels=channels,
        labels=labels,
        turn=_turn(plans),
        reader=plans.text("image_reader_writer"),
        spacing_mm=_three([0.0, *spacing] if flat else spacing),
        window=_three_whole([1, *window] if flat else window),
        interpolation=interpolation,
        separate_above=separate,
        intensity=intensity,
        outline=outline,
        network=network_arguments(
            configuration, len(channels) + (len(labels.foreground) if previous else 0), labels.channels
        ),
        previous=previous,
    )


def configuration_names(folder: Path) -> tuple[str, ...]:
    """The configurations of a plan."""
    return tuple(read_document(folder / "plans.json").of("configurations").table)


def channels_of(dataset: Document) -> tuple[str, ...]:
    """Names of the image channels, in the order of their numbers.

    Raises
    ------
    SourceRefused
        If the numbers leave a hole, or there are none or more than 16.
    """
    key = "channel_names" if "channel_names" in dataset else "modality"
    table = dataset.of(key).table
    if not 1 <= len(table) <= 16 or set(table) != {str(number) for number in range(len(table))}:
        raise dataset.refuse(key, "does not number 1 to 16 channels from 0 without holes")
    return tuple(printable(str(table[str(number)]), 60) for number in range(len(table)))


def labels_of(dataset: Document) -> Labels:
    """The segments, from ``labels`` and ``regions_class_order``.

    Raises
    ------
    SourceRefused
        If the numbers leave holes, repeat, or regions have no order.
    """
    table = dict(dataset.of("labels").table)
    table.pop("ignore", None)
    if table.pop("background", None) != 0:
        raise dataset.refuse("labels", "does not say that background is 0")
    if not 1 <= len(table) <= _MOST_LABELS:
        raise dataset.refuse("labels", "names no segment, or too many")
    names = tuple(printable(name, 64) for name in table)
    if any(isinstance(value, list) for value in table.values()):
        order = dataset.wholes("regions_class_order", (len(table),), 1, 65535)
        if len(set(order)) != len(order):
            raise dataset.refuse("regions_class_order", "names a label twice")
        return Labels(names, tuple(order), regions=True, foreground=_foreground(dataset, table))
    values = list(table.values())
    if any(type(value) is not int for value in values) or sorted(values) != list(range(1, len(values) + 1)):
        raise dataset.refuse("labels", "does not count 1, 2, 3 ... without holes")
    by_number = sorted(zip(values, names, strict=True))
    counted = tuple(value for value, _ in by_number)
    return Labels(tuple(name for _, name in by_number), counted, regions=False, foreground=counted)


def _foreground(dataset: Document, table: Mapping[str, Any]) -> tuple[int, ...]:
    """All labels that regions are made of."""
    values = [one for value in table.values() for one in (value if isinstance(value, list) else [value])]
    if any(type(value) is not int or not 0 <= value <= 65535 for value in values):
        raise dataset.refuse("labels", "holds what is no label number")
    return tuple(sorted(set(values) - {0}))


def _resolved(plans: Document, name: str) -> Document:
    """A configuration with what it inherits."""
    seen: list[str] = []
    merged: dict[str, Any] = {}
    here = name
    every = plans.of("configurations")
    while here:
        if here in seen or len(seen) > 10:
            raise every.refuse(printable(here, 60), "inherits from itself")
        seen.append(here)
        table = every.of(here).table
        merged = {**table, **merged}
        above = table.get("inherits_from")
        here = above if isinstance(above, str) else ""
    return Document(plans.path, merged, f"configurations.{printable(name, 60)}")


def _same_version(plans: Document, configuration: Document) -> None:
    """Parts that code of this version gives a meaning to; any other name is somebody's own program."""
    for document, key, known in (
        (configuration, "preprocessor_name", ("DefaultPreprocessor",)),
        (plans, "label_manager", ("LabelManager",)),
        (plans, "image_reader_writer", tuple(READERS)),
    ):
        if key in document and document.text(key) not in known:
            raise document.refuse(key, f"is {printable(document.text(key), 60)!r}, not {' or '.join(known)}")


def _previous(configuration: Document) -> str | None:
    """The stage before, with its answers resampled as nnU-Net does by default."""
    if not configuration.table.get("previous_stage"):
        return None
    key = "resampling_fn_seg"
    if configuration.text(key) != _DEFAULT_RESAMPLING:
        raise configuration.refuse(key, f"is not {_DEFAULT_RESAMPLING}")
    found, image = configuration.of(f"{key}_kwargs"), configuration.of("resampling_fn_data_kwargs")
    found.none_of(*(name for name in found.table if name not in ("is_seg", "order", "order_z", "force_separate_z")))
    if found.table.get("is_seg") is not True or found.number("order", 1) != 1 or found.number("order_z", 0) != 0:
        raise found.refuse("order", "is not 1, and 0 along the third axis, for labels")
    if found.table.get("force_separate_z") != image.table.get("force_separate_z"):
        raise found.refuse("force_separate_z", "is not that of the image")
    return configuration.text("previous_stage")


def _resampling(configuration: Document) -> tuple[str, float | None]:
    data = _resampling_of(configuration, "resampling_fn_data")
    back = _resampling_of(configuration, "resampling_fn_probabilities")
    order = data.number("order", 3)
    if order not in (1, 3) or back.number("order", 1) != 1:
        raise data.refuse("order", "is not 3 or 1 for the image and 1 for the answer")
    force = data.table.get("force_separate_z")
    if force not in (None, False) or back.table.get("force_separate_z") != force:
        raise data.refuse("force_separate_z", "is forced, which is not known here")
    return ("cubic-edge" if order == 3 else "linear"), (_ANISOTROPY if force is None else None)


def _resampling_of(configuration: Document, key: str) -> Document:
    if configuration.text(key) != _DEFAULT_RESAMPLING:
        raise configuration.refuse(key, f"is not {_DEFAULT_RESAMPLING}")
    found = configuration.of(f"{key}_kwargs")
    found.none_of(*(name for name in found.table if name not in ("is_seg", "order", "order_z", "force_separate_z")))
    if found.table.get("is_seg") or found.number("order_z", 0) != 0:
        raise found.refuse("order_z", "is not 0")
    return found


def _normalisation(
    plans: Document, configuration: Document, channels: int
) -> tuple[tuple[tuple[dict[str, Any], ...], ...], tuple[bool, ...]]:
    schemes = configuration.table.get("normalization_schemes")
    masks = configuration.table.get("use_mask_for_norm")
    if not isinstance(schemes, list) or not isinstance(masks, list) or not len(schemes) == len(masks) == channels:
        raise configuration.refuse("normalization_schemes", f"does not fit the {channels} channels of dataset.json")
    steps = tuple(_steps(plans, configuration, str(scheme), number) for number, scheme in enumerate(schemes))
    return steps, tuple(
        bool(mask) and scheme == "ZScoreNormalization" for mask, scheme in zip(masks, schemes, strict=True)
    )


def _steps(plans: Document, configuration: Document, scheme: str, number: int) -> tuple[dict[str, Any], ...]:
    if scheme == "ZScoreNormalization":
        return ({"step": "z-score"},)
    if scheme == "NoNormalization":
        return ()
    if scheme == "RescaleTo01Normalization":
        return ({"step": "scale-quantiles", "low": 0.0, "high": 1.0},)
    if scheme == "RGBTo01Normalization":
        return ({"step": "scale", "low": 0.0, "high": 255.0, "clip": False},)
    if scheme == "CTNormalization":
        found = plans.of("foreground_intensity_properties_per_channel").of(str(number))
        low, high = found.number("percentile_00_5"), found.number("percentile_99_5")
        if low >= high:
            raise found.refuse("percentile_99_5", "is not above percentile_00_5")
        scale = {"step": "standardise", "mean": found.number("mean"), "std": max(found.number("std"), 1e-8)}
        return ({"step": "clip", "low": low, "high": high}, scale)
    raise configuration.refuse("normalization_schemes", f"holds {printable(scheme, 60)!r}, which is not nnU-Net's own")


def _turn(plans: Document) -> tuple[int, int, int]:
    turn = plans.wholes("transpose_forward", (3,), 0, 2)
    if sorted(turn) != [0, 1, 2]:
        raise plans.refuse("transpose_forward", "is no order of three axes")
    return turn[0], turn[1], turn[2]


def _three(values: list[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _three_whole(values: list[int]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


def turned(orientation: str, turn: tuple[int, int, int]) -> str:
    """The orientation code of nnU-Net's axes, from that of the file's (letters name i, j, k)."""
    letters = list(reversed(orientation))  # of k, j, i
    return "".join(reversed([letters[axis] for axis in turn]))


def slug(name: str, number: int) -> str:
    """A channel name that a manifest takes."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return plain or f"channel-{number}"


def refuse_pickle_plans(folder: Path) -> None:
    """Raise SourceRefused for the results of nnU-Net 1, whose plans are a pickle."""
    if (folder / "plans.pkl").exists() and not (folder / "plans.json").exists():
        raise SourceRefused(
            "these are results of nnU-Net 1, whose plans are a pickle", "train with nnU-Net 2, or export ONNX", folder
        )

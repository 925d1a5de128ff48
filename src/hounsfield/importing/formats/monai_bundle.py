"""A MONAI bundle: ``configs/metadata.json``, ``configs/inference.json`` and ``models/model.pt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.checkpoints import State, read_checkpoint, states_in
from hounsfield.importing.checkpoints.naming import fit
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft
from hounsfield.importing.monai.configs import read_config
from hounsfield.importing.monai.networks import read_network
from hounsfield.importing.monai.transforms import Reading, grid_table, read_after, read_before, read_window
from hounsfield.importing.tables import read_table

HEAVY = ("torch", "onnx", "safetensors.torch", "monai.networks.nets", "hounsfield.importing.monai.parity")

_QUESTIONS = {
    **QUESTIONS,
    "input.orientation": "The bundle has no Orientationd: orientation of its training arrays, last axis first.",
}


def claims(source: Path) -> Claim | None:
    """A claim on a folder with ``configs/metadata.json``; everything that will be read is checked here."""
    metadata = source / "configs" / "metadata.json"
    if metadata.is_symlink() or not metadata.is_file():
        return None
    model = _Model(source)
    inputs = _channels(model.metadata, model.description["channels_in"])
    labels = _labels(model.metadata, model.description["channels_out"], model.output["activation"])
    _state(source)
    template = basic_template(inputs, labels, orientation=model.before.orientation or ASKED)
    questions = dict(_QUESTIONS)
    if model.before.orientation:
        del questions["input.orientation"]
    found = [
        ("network", str(model.description["name"])),
        ("window", " x ".join(map(str, model.window["shape"]))),
        ("steps", ", ".join(str(step["step"]) for step in model.before.intensity) or "none"),
    ]
    if model.unread:
        found.append(("not read", ", ".join(printable(key, 40) for key in model.unread)))
    return Claim("monai", "a MONAI bundle", tuple(found), template, questions)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The network with the bundle's weights, and its transforms as steps of the package."""
    from hounsfield.importing.monai.parity import against_monai
    from hounsfield.importing.torch_ends import finish, network_of

    model = _Model(source)
    state = _state(source)
    network, shapes = network_of(model.description)
    found = fit(state.tensors, shapes, str(model.description["name"]))
    arrays = {name: state.tensors[theirs].array() for name, theirs in found.names.items()}
    k, j, i = (min(n, 64) for n in model.window["shape"])
    ends = finish(network, model.description, arrays, (k, j, i), folder)
    input_table = {"intensity": model.before.intensity, "window": model.window, **grid_table(model.before)}
    manifest = manifest_from(
        answers, input_table=input_table, output_table=model.output, architecture=model.description
    )
    limits: tuple[str, ...] = ()
    if model.unread:
        limits = (f"Not read, because they only say how MONAI runs the bundle: {', '.join(model.unread)}.",)
    parity = against_monai(model.network_table, arrays, network, (k, j, i))
    facts = (f"Network: {model.description['name']}, {state.parameters} numbers.", *found.facts)
    return Draft(manifest, ends.files, facts, limits, ends.goldens, (parity,))


class _Model:
    """What the bundle's two configurations say."""

    def __init__(self, source: Path) -> None:
        path = source / "configs" / "inference.json"
        config = read_config(source)
        plain: Mapping[str, Any] = config["plain"]
        self.metadata = read_table(source / "configs" / "metadata.json")
        self.network_table: Mapping[str, Any] = config.get("network_def") or {}
        self.description = read_network(self.network_table, path)
        self.before: Reading = read_before(config.get("preprocessing"), plain, path)
        if self.before.joint and self.description["channels_in"] > 1:
            fact = f"{self.before.joint[0]} takes its statistics from all image channels together"
            raise SourceRefused(fact, "set channel_wise, and train with it", path)
        self.window = read_window(config.get("inferer"), plain, path)
        self.output = read_after(config.get("postprocessing"), plain, path)
        if not self.before.spacing:
            del self.output["restore"]
        self.unread: list[str] = config["unread"]


def _state(source: Path) -> State:
    path = source / "models" / "model.pt"
    if path.is_symlink() or not path.is_file():
        raise SourceRefused("it has no models/model.pt", "put the state_dict there", source)
    states = states_in(read_checkpoint(path))
    if len(states) != 1:
        raise SourceRefused(f"models/model.pt holds {len(states)} tables of tensors", "keep one state_dict", source)
    return states[0]


def _entry(metadata: Mapping[str, Any], side: str, name: str) -> Mapping[str, Any]:
    value: Any = metadata
    for key in ("network_data_format", side, name):
        value = value.get(key, {}) if isinstance(value, Mapping) else {}
    return value if isinstance(value, Mapping) else {}


def _channels(metadata: Mapping[str, Any], wanted: int) -> list[str]:
    """One name per image channel; a metadata that states another number is refused."""
    stated = _entry(metadata, "inputs", "image").get("num_channels", wanted)
    if stated != wanted:
        raise SourceRefused(
            f"metadata.json states {printable(str(stated), 20)} image channels, the network takes {wanted}",
            "correct num_channels in metadata.json",
        )
    return [ASKED] * wanted


def _labels(metadata: Mapping[str, Any], classes: int, activation: str) -> list[str]:
    """Labels of the segments: of ``channel_def`` where it names every channel, else asked for."""
    background = 1 if activation == "softmax" else 0
    table = _entry(metadata, "outputs", "pred").get("channel_def")
    if table is None or table == {}:
        return [ASKED] * (classes - background)
    if not isinstance(table, Mapping) or sorted(map(str, table)) != sorted(map(str, range(classes))):
        raise SourceRefused(
            f"channel_def of metadata.json does not name the channels 0 to {classes - 1} without holes",
            "correct network_data_format.outputs.pred.channel_def",
        )
    return [printable(str(table[str(number)]), 64) or ASKED for number in range(background, classes)]

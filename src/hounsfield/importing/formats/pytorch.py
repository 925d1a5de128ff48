"""PyTorch checkpoints and safetensors onto a network of the closed list.

The weights say nothing of the network around them, so its name and arguments are asked for, except
where the names of the tensors leave no doubt (DenseNet-121 in its published layouts).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageInvalid, SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, class_template, manifest_from
from hounsfield.importing.checkpoints import State, is_checkpoint, read_checkpoint, states_in
from hounsfield.importing.checkpoints.naming import fit, looks_like_densenet121
from hounsfield.importing.claim import Claim
from hounsfield.importing.draft import Draft

HEAVY = ("torch", "onnx", "safetensors.torch", "hounsfield.importing.torch_ends")

_QUESTIONS = {
    **QUESTIONS,
    "source.weights": "The file holds several sets of weights; name one.",
    "architecture": "The network: a name of the closed list and its arguments (docs/reference/import.md).",
    "input.spacing_mm": "Voxel spacing of the training images (k, j, i) in mm.",
    "input.intensity": 'Steps such as { step = "z-score" }, in order, or [] (docs/reference/model-package.md).',
    "architecture.shades": "It was made for colour: [mean, std] of each channel in units of your intensity steps.",
    "input.fit": "true: the whole image is brought to the window's shape; interpolation: area, linear or cubic.",
    "input.window": "Window shape (k, j, i) in voxels, and further window keys.",
}


def claims(source: Path) -> Claim | None:
    """A claim on a single file of weights."""
    if not is_checkpoint(source):
        return None
    states = states_in(read_checkpoint(source))
    if not states:
        raise SourceRefused("it holds no table of named tensors", "save model.state_dict()", source)
    found = [(f"weights {state.place or 'of the file'}", _summary(state)) for state in states]
    template = _template(states)
    if len(states) > 1:
        template["source"] = {"weights": ASKED}
    return Claim("pytorch", "PyTorch weights", tuple(found), template, _QUESTIONS)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The network of the answers with the weights of the source, as ONNX and safetensors."""
    from hounsfield.importing.torch_ends import finish, network_of

    state = _chosen(states_in(read_checkpoint(source)), answers.get("source.weights"))
    description = dict(answers.at("architecture"))
    network, shapes = network_of(description)
    found = fit(state.tensors, shapes, str(description["name"]))
    ends = finish(
        network,
        description,
        {name: state.tensors[theirs].array() for name, theirs in found.names.items()},
        _window(answers),
        folder,
    )
    input_table = {key: value for key, value in answers.at("input").items() if key not in ("channels", "orientation")}
    manifest = manifest_from(answers, input_table=input_table, architecture=description)
    facts = (f"Network: {description['name']}, {state.parameters} numbers.", *found.facts)
    return Draft(manifest, ends.files, facts, goldens=ends.goldens)


def _template(states: tuple[State, ...]) -> dict[str, Any]:
    """What must be told: all of the network, or of a recognised DenseNet-121 only how it sees an image."""
    window: dict[str, Any] = {"shape": [ASKED]}
    dense = _dense(states[0]) if len(states) == 1 else None
    if dense is None:
        table = {"spacing_mm": [ASKED], "intensity": [ASKED], "window": {**window, "overlap": 0.5}}
        return {**basic_template([ASKED], [ASKED], input_table=table), "architecture": {"name": ASKED}}
    channels, classes = dense
    table = {"fit": ASKED, "interpolation": ASKED, "intensity": [ASKED], "window": window}
    network: dict[str, Any] = {"name": "densenet121", "channels_in": channels, "channels_out": classes}
    if channels == 3:
        network |= {"channels_in": 1, "shades": [ASKED]}
    given = class_template([ASKED] * network["channels_in"], classes, input_table=table)
    return {**given, "architecture": network}


def _dense(state: State) -> tuple[int, int] | None:
    return looks_like_densenet121({name: tensor.shape for name, tensor in state.tensors.items()})


def _summary(state: State) -> str:
    dense = _dense(state)
    what = f"; DenseNet-121, {dense[0]} channels, {dense[1]} classes" if dense else ""
    return f"{len(state.tensors)} tensors, {state.parameters} numbers{what}"


def _chosen(states: tuple[State, ...], place: str | None) -> State:
    if place is None and len(states) == 1:
        return states[0]
    for state in states:
        if state.place == place:
            return state
    places = ", ".join(repr(state.place) for state in states)
    raise PackageInvalid(f"source.weights names no weights of the file: {place!r}", f"use one of: {places}")


def _window(answers: Answers) -> tuple[int, int, int]:
    shape: Any = answers.at("input.window")
    shape = shape.get("shape") if isinstance(shape, Mapping) else None
    if not isinstance(shape, list) or len(shape) != 3 or any(type(n) is not int or not 1 <= n <= 1024 for n in shape):
        raise PackageInvalid("input.window.shape is not three voxel numbers", "give the window as [k, j, i]")
    return shape[0], shape[1], shape[2]

"""MeshNet of the brainchop project: TensorFlow.js folders, and folders with a PyTorch state_dict.

``model.json`` with ``model.bin`` is a layers model (:mod:`hounsfield.importing.formats.tfjs`).
``model.json`` with ``model.pth`` is the project's newer form: a list of layers whose channel numbers
(-1 and 5 in it are placeholders) come from the weights; every convolution but the last is followed
by a normalisation of each channel over the whole volume, and GELU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import ASKED, Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.checkpoints import State, read_checkpoint, states_in
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft
from hounsfield.importing.formats.tfjs import read_chain, read_weights
from hounsfield.importing.tables import read_table, whole

HEAVY = ("torch", "onnx", "safetensors.torch", "hounsfield.importing.torch_ends")

_CONFORMED = 256
_GOLDEN = (24, 32, 28)
_QUESTIONS = {
    **QUESTIONS,
    "input.orientation": "Orientation of the training arrays, last axis first (brainchop: docs/how-to/import.md).",
    "input.intensity": 'Steps such as { step = "scale-quantiles", low = 0.05, high = 0.95, clip = false }, in order.',
}


def claims(source: Path) -> Claim | None:
    """A claim on a folder with a ``model.json`` that is a layers model or a list of MeshNet layers."""
    path = source / "model.json"
    if path.is_symlink() or not path.is_file():
        return None
    table = read_table(path)
    if table.get("format") == "layers-model" and "modelTopology" in table:
        chain = read_chain(path)
        read_weights(source, chain)
        found = _found(chain.filters, chain.dilations, chain.classes)
        return _claim(source, "TensorFlow.js MeshNet", found, chain.classes, _stated_intensity(table))
    if isinstance(table.get("layers"), list) and (source / "model.pth").is_file():
        dilations, state = _torch_form(table, source)
        classes = state.tensors[_last(dilations)].shape[0]
        filters = state.tensors["model.0.0.weight"].shape[0]
        return _claim(source, "PyTorch MeshNet of brainchop", _found(filters, dilations, classes), classes, ASKED)
    return None


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The network with the source's weights, for whole brains conformed to 256 voxels of 1 mm."""
    from hounsfield.importing.torch_ends import finish, network_of

    table = read_table(source / "model.json")
    arrays: dict[str, NDArray[Any]]
    if table.get("format") == "layers-model":
        chain = read_chain(source / "model.json")
        description, arrays = chain.description, dict(read_weights(source, chain))
    else:
        dilations, state = _torch_form(table, source)
        description, names = _torch_description(dilations, state)
        arrays = {name: state.tensors[theirs].array() for name, theirs in names.items()}
    network, _ = network_of(description)
    ends = finish(network, description, arrays, _GOLDEN, folder)
    norm = description.get("norm") == "instance"
    input_table = {
        "spacing_mm": [1.0, 1.0, 1.0],
        "intensity": answers.at("input.intensity"),
        "window": {"shape": [_CONFORMED] * 3, "overlap": 0.5, "positions": "stride", "blending": "constant"},
    }
    manifest = manifest_from(answers, input_table=input_table, architecture=description)
    facts = ("Network: MeshNet; kernels of the source, axes in the order of the orientation, no number changed.",)
    limits = (
        "Meant for a whole brain within 256 voxels of 1 mm along each axis; smaller scans are padded with zeros.",
        *(("Every channel is normalised over the window, so the whole head must be in it.",) if norm else ()),
        "Grey values are not converted to 8 bits first, as FreeSurfer's conform does; the scaling step replaces it.",
    )
    return Draft(manifest, ends.files, facts, limits, ends.goldens)


def _claim(source: Path, title: str, found: tuple[tuple[str, str], ...], classes: int, intensity: Any) -> Claim:
    labels = _labels(source, classes)
    template = basic_template(["t1"], labels, input_table={"intensity": intensity})
    return Claim("meshnet", title, found, template, _QUESTIONS)


def _found(filters: int, dilations: tuple[int, ...], classes: int) -> tuple[tuple[str, str], ...]:
    layers = f"{len(dilations)} of {filters} filters, dilations {', '.join(map(str, dilations))}"
    return (("convolutions", layers), ("classes", f"{classes}, background included"))


def _stated_intensity(table: Mapping[str, Any]) -> Any:
    """The scaling that the comment of the file states, or the question."""
    comment = table.get("_comment")
    said = re.search(r"min *= *(\d{1,2})% quantile, *max *= *(\d{1,3})% quantile", str(comment))
    if said is None:
        return ASKED
    low, high = (int(text) / 100 for text in said.groups())
    return [{"step": "scale-quantiles", "low": low, "high": high, "clip": False}]


def _labels(source: Path, classes: int) -> list[str]:
    """Labels of ``colormap.json`` without the background; a list with holes or of another length is refused."""
    path = source / "colormap.json"
    if not path.is_file():
        return [ASKED] * (classes - 1)
    labels = read_table(path).get("labels")
    plain = isinstance(labels, list) and all(isinstance(label, str) and label.strip() for label in labels)
    if not isinstance(labels, list) or not plain or len(labels) != classes:
        raise SourceRefused(f"its labels are not {classes} texts without holes", "correct colormap.json", path)
    return [printable(label, 64) for label in labels[1:]]


def _torch_form(table: Mapping[str, Any], source: Path) -> tuple[tuple[int, ...], State]:
    path = source / "model.json"
    if table.get("bnorm") is not True or table.get("gelu") is not True or table.get("dropout_p") not in (0, 0.0):
        raise SourceRefused(
            "it is a MeshNet without norm or GELU, which is not read in this form", "use model.bin", path
        )
    *layers, last = table["layers"] or [None]
    dilations = []
    for number, layer in enumerate(layers):
        dilation: Any = layer.get("dilation") if isinstance(layer, dict) else None
        wanted = {"kernel_size": 3, "stride": 1, "padding": dilation}
        if not whole(dilation, 1, 64) or any(layer.get(key) != value for key, value in wanted.items()):
            raise SourceRefused(f"layer {number} is not as MeshNet has it", "fetch model.json again", path)
        dilations.append(int(dilation))
    if not dilations or len(dilations) > 100 or not isinstance(last, dict) or last.get("kernel_size") != 1:
        raise SourceRefused("its layers are no MeshNet", "fetch model.json again", path)
    states = states_in(read_checkpoint(source / "model.pth"))
    wanted_names = {f"model.{n}.0.weight" for n in range(len(dilations))} | {_last(tuple(dilations))}
    if len(states) != 1 or not wanted_names <= set(states[0].tensors):
        raise SourceRefused("its weights are not those of the layers that it lists", "fetch it again", path)
    return tuple(dilations), states[0]


def _last(dilations: tuple[int, ...]) -> str:
    return f"model.{len(dilations)}.weight"


def _torch_description(dilations: tuple[int, ...], state: State) -> tuple[dict[str, Any], dict[str, str]]:
    """The ``[architecture]`` table, and the checkpoint's name of each tensor of the network."""
    first, last = state.tensors["model.0.0.weight"], state.tensors[_last(dilations)]
    if len(first.shape) != 5 or len(last.shape) != 5:
        raise SourceRefused("its kernels are not three-dimensional", "fetch it again")
    names = {f"hidden.{n}.weight": f"model.{n}.0.weight" for n in range(len(dilations))}
    names |= {"head.weight": _last(dilations), "head.bias": f"model.{len(dilations)}.bias"}
    strange = sorted(set(state.tensors) - set(names.values()))
    if strange or names["head.bias"] not in state.tensors:
        what = f"left over {printable(strange[0], 60)}" if strange else "the last bias is missing"
        raise SourceRefused(f"the weights do not fit MeshNet: {what}", "fetch it again")
    description = {
        "name": "meshnet",
        "channels_in": first.shape[1],
        "channels_out": last.shape[0],
        "filters": first.shape[0],
        "dilations": list(dilations),
        "activation": "gelu",
        "norm": "instance",
    }
    return description, names

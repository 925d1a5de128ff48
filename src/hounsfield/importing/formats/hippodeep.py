"""The weights folder of hippodeep: three state_dicts become one package of steps.

The folder holds tensors only. What lies between the networks (grids, the atlas' affine, the box of
the hippocampi) is of the published method (doi 10.1016/j.media.2017.11.004), stated here as steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.checkpoints import State, read_checkpoint, states_in
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft, Golden

HEAVY = ("torch", "onnx", "hounsfield.importing.torch_ends")

_MNI = ((-2.85714293, 0.0, 0.0, 90.0), (0.0, 3.42857146, 0.0, -126.0), (0.0, 0.0, 2.85714293, -72.0))
_BOX = ((-1.0, 0.0, 0.0, 54.0), (0.0, 1.0, 0.0, -59.0), (0.0, 0.0, 1.0, -45.0))
_LABELS = ("Brain without hippocampi", "Left hippocampus", "Right hippocampus")


def _head_names() -> dict[str, str]:
    names = {"conv1x": "maps"}
    for level in range(4):
        names |= {f"conv{level}a": f"down.{level}.first", f"conv{level}b": f"down.{level}.second"}
        names[f"bn{level}a"] = f"down.{level}.norm"
    for number, level in enumerate((2, 1, 0)):
        names |= {f"conv{level}u": f"up.{number}.first", f"conv{level}v": f"up.{number}.second"}
        names[f"bn{level}u"] = f"up.{number}.norm"
    return names


_ALIGN_NAMES = {
    **{f"convaff{n + 1}": f"convolutions.{n}" for n in range(4)},
    **{f"bnaff{n + 2}": f"norms.{n}" for n in range(3)},
    "convaff5": "wide",
    "convaff6": "numbers",
}
_HIPPOCAMPUS_NAMES = {
    "conv0a_0": "lines.0",
    "conv0a_1": "lines.1",
    "conv0a": "lines.2",
    "convf1": "wide",
    "bn1": "residues.0.norm",
    "convout0": "residues.0.first",
    "convout1": "residues.0.second",
    "bn2": "residues.1.norm",
    "convout2p": "residues.1.first",
    "convout2": "residues.1.second",
    "convlx3": "coarse.0",
    "convlx5": "coarse.1",
    "convlx7": "coarse.2",
    "convlx8": "first_answer",
    "blur": "blur",
    "conv_extract": "extract",
    "convmix": "mix",
    "convout1x": "answer",
}


@dataclass(frozen=True)
class _Part:
    """One of the three networks: its step, file pattern, channels, window, and names of its layers."""

    step: str
    pattern: str
    channels: tuple[int, int]
    window: tuple[int, int, int]
    names: dict[str, str]

    @property
    def description(self) -> dict[str, Any]:
        part = {"channels_in": self.channels[0], "channels_out": self.channels[1]}
        return {"name": "hippodeep", "part": self.step, **part}


_PARTS = (
    _Part("head", "params_head_*.pt", (1, 4), (64, 64, 64), _head_names()),
    _Part("align", "paramsaffineta_*.pt", (2, 12), (64, 64, 64), _ALIGN_NAMES),
    _Part("hippocampus", "hippodeep.pt", (1, 1), (48, 72, 64), _HIPPOCAMPUS_NAMES),
)


def claims(source: Path) -> Claim | None:
    """A claim on a folder with the three files."""
    if not source.is_dir() or not (source / "hippodeep.pt").exists():
        return None
    found = [(part.step, f"{_state(source, part).parameters} numbers") for part in _PARTS]
    template = basic_template(["t1"], _LABELS, orientation="SAL")
    questions = {key: text for key, text in QUESTIONS.items() if key != "input.orientation"}
    return Claim("hippodeep", "hippodeep's three networks", tuple(found), template, questions)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The three networks as ONNX, and the steps between them."""
    goldens = [_one(source, part, folder) for part in _PARTS]
    graphs = [
        {"precision": "fp32", "step": part.step, "file": _place(part), "input": "image", "output": "logits"}
        for part in _PARTS
    ]
    input_table = {"intensity": [{"step": "z-score"}], "window": {"shape": list(_PARTS[2].window), "overlap": 0.0}}
    manifest = manifest_from(answers, input_table=input_table, output_table={"activation": "sigmoid"}, graphs=graphs)
    if len(manifest["output"]["segments"]) != len(_LABELS):
        raise SourceRefused("it answers brain, left and right hippocampus", "keep the three segments of the template")
    facts = (
        "Three networks: the head on a grid of 64 voxels, twelve numbers that place an atlas, a box of the hippocampi.",
        "The geometry between them is the published method's, stated as steps; no number of the weights was changed.",
    )
    limits = ("Volumes are of voxels above one half; the authors' script also sums partial voxels.",)
    files = {_place(part): f"{part.step}.onnx" for part in _PARTS}
    return Draft({**manifest, "steps": _steps()}, files, facts, limits, tuple(goldens))


def _one(source: Path, part: _Part, folder: Path) -> Golden:
    """Write one network's graph and its golden case."""
    from hounsfield.importing.torch_ends import finish_step, network_of

    path, state = _file(source, part), _state(source, part)
    network, shapes = network_of(part.description)
    arrays = {}
    for name, tensor in state.tensors.items():
        layer, _, kind = name.rpartition(".")
        ours = f"{part.names.get(layer, '?')}.{kind}"
        if shapes.get(ours) != tensor.shape:
            raise SourceRefused(f"the tensor {printable(name, 60)!r} is not hippodeep's", "fetch it again", path)
        arrays[ours] = tensor.array()
    missing = sorted(set(shapes) - set(arrays))
    if missing:
        raise SourceRefused(f"{len(missing)} tensors are missing, such as {missing[0]}", "fetch it again", path)
    return finish_step(network, part.description, arrays, part.window, folder, part.step)


def _state(source: Path, part: _Part) -> State:
    path = _file(source, part)
    states = states_in(read_checkpoint(path))
    if len(states) != 1:
        raise SourceRefused("it holds no single table of tensors", "fetch it again", path)
    return states[0]


def _steps() -> list[dict[str, Any]]:
    sides = [{"number": 2, "start": [53, 0, 2], "mirrored": True}, {"number": 3, "start": [6, 0, 2]}]
    return [
        {"step": "look", "name": "head", "shape": [64] * 3, "maps": 4, "segments": [{"number": 1, "map": 0}]},
        {
            "step": "place",
            "name": "align",
            "of": "head",
            "maps": [1, 3],
            "mask": 0,
            "shape": [64] * 3,
            "affine": [list(row) for row in _MNI],
        },
        {
            "step": "box",
            "name": "hippocampus",
            "of": "align",
            "affine": [list(row) for row in _BOX],
            "shape": [107, 72, 68],
            "side_shape": [48, 72, 64],
            "border": 2,
            "sides": sides,
        },
    ]


def _place(part: _Part) -> str:
    return f"graphs/{part.step}.onnx"


def _file(source: Path, part: _Part) -> Path:
    found = sorted(source.glob(part.pattern))
    if len(found) != 1 or found[0].is_symlink():
        raise SourceRefused(
            f"it holds {len(found)} files {part.pattern}, not one", "keep hippodeep's three files", source
        )
    return found[0]

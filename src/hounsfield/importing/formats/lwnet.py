"""Little W-Net: a folder with ``config.cfg`` (JSON) and ``model_checkpoint.pth``; 2-D colour images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import Answers
from hounsfield.importing.basics import QUESTIONS, basic_template, manifest_from
from hounsfield.importing.checkpoints import State, read_checkpoint, states_in
from hounsfield.importing.claim import Claim, printable
from hounsfield.importing.draft import Draft
from hounsfield.importing.tables import read_table

HEAVY = ("torch", "onnx", "safetensors.torch", "hounsfield.importing.torch_ends")

_RENAMES = (
    (r"^unet1\.", "first."),
    (r"^unet2\.", "second."),
    (r"\.first\.(shortcut|block)", r".down.0.\1"),
    (r"\.down_path\.1\.", ".down.2."),
    (r"\.down_path\.0\.", ".down.1."),
    (r"\.up_path\.", ".up."),
    (r"\.up_layer\.block\.0\.", ".upward."),
    (r"\.conv_bridge_layer\.block\.0\.", ".bridge."),
    (r"\.conv_bridge_layer\.block\.2\.", ".bridge_norm."),
    (r"\.conv_layer\.", ".block@."),
    (r"(?<!@)\.shortcut\.0\.", ".shortcut."),
    (r"(?<!@)\.shortcut\.1\.", ".shortcut_norm."),
    (r"(?<!@)\.block\.0\.", ".first."),
    (r"(?<!@)\.block\.2\.", ".first_norm."),
    (r"(?<!@)\.block\.3\.", ".second."),
    (r"(?<!@)\.block\.5\.", ".second_norm."),
    (r"\.block@\.shortcut\.0\.", ".block.shortcut."),
    (r"\.block@\.shortcut\.1\.", ".block.shortcut_norm."),
    (r"\.block@\.block\.0\.", ".block.first."),
    (r"\.block@\.block\.2\.", ".block.first_norm."),
    (r"\.block@\.block\.3\.", ".block.second."),
    (r"\.block@\.block\.5\.", ".block.second_norm."),
    (r"\.final\.", ".head."),
)
_COLOURS = ("red", "green", "blue")


def claims(source: Path) -> Claim | None:
    """A claim on a folder whose ``config.cfg`` names the model ``wnet``."""
    config = source / "config.cfg"
    if config.is_symlink() or not config.is_file() or not (source / "model_checkpoint.pth").is_file():
        return None
    table = read_table(config)
    if table.get("model_name") != "wnet":
        return None
    state = _state(source)
    template = basic_template(_COLOURS, ["Retinal vessel"], orientation="LPS")
    questions = {key: text for key, text in QUESTIONS.items() if key != "input.orientation"}
    found = (("numbers", str(state.parameters)), ("window", f"{_size(table, config)} x {_size(table, config)}"))
    return Claim("lwnet", "Little W-Net for colour fundus images", found, template, questions)


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """The network for a colour image of one slice: channels red, green, blue."""
    from hounsfield.importing.torch_ends import finish, network_of

    size = _size(read_table(source / "config.cfg"), source / "config.cfg")
    state = _state(source)
    filters = [_down(state, level).shape[0] for level in range(3)]
    description = {"name": "wnet", "channels_in": 3, "channels_out": 1, "filters": filters}
    network, shapes = network_of(description)
    names = {_ours(name): name for name in state.tensors}
    wrong = sorted(set(names) ^ set(shapes))
    if wrong:
        raise SourceRefused(
            f"the weights do not fit W-Net, such as {printable(wrong[0], 80)}", "fetch it again", source
        )
    arrays = {ours: state.tensors[theirs].array() for ours, theirs in names.items()}
    ends = finish(network, description, arrays, (1, size, size), folder)
    input_table: dict[str, Any] = {
        "intensity": [{"step": "scale", "low": 0.0, "high": 255.0}],
        "window": {"shape": [1, size, size], "overlap": 0.0},
    }
    output = {"activation": "sigmoid", "threshold": 0.4196}
    manifest = manifest_from(answers, input_table=input_table, output_table=output, architecture=description)
    facts = ("Network: Little W-Net, its second half's answer; threshold 0.4196 as published.",)
    limits = (
        "Colour images are not read by hounsfield yet: the package verifies and its graph runs in every engine,"
        " but 'hounsfield run' refuses colour.",
        f"The authors crop to the field of view and resize to {size} x {size}; neither is a step of this package.",
        "The authors average four mirrored answers; this package gives one.",
    )
    return Draft(manifest, ends.files, facts, limits, ends.goldens)


def _state(source: Path) -> State:
    path = source / "model_checkpoint.pth"
    states = [state for state in states_in(read_checkpoint(path)) if any(n.startswith("unet2.") for n in state.tensors)]
    if len(states) != 1:
        raise SourceRefused("it holds no weights of a W-Net", "fetch it again", path)
    return states[0]


def _down(state: State, level: int) -> Any:
    name = "unet1.first.block.0.weight" if level == 0 else f"unet1.down_path.{level - 1}.block.0.weight"
    if name not in state.tensors:
        raise SourceRefused(f"the tensor {name} is missing", "fetch it again")
    return state.tensors[name]


def _size(table: dict[str, Any], path: Path) -> int:
    text = table.get("im_size")
    if not isinstance(text, str) or not re.fullmatch(r"\d{2,4}", text) or int(text) % 4 or not 32 <= int(text) <= 2048:
        raise SourceRefused("im_size is not one size that divides by 4", "fetch config.cfg again", path)
    return int(text)


def _ours(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name

"""Hostile and broken PyTorch files and nnU-Net folders, added to the table of :mod:`hostile_sources`."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from answering import CHANNEL, answers
from hostile_sources import Canary, case
from nnunet_cases import given as told_of
from safetensors.torch import save_file

from hounsfield.architectures import build, weights_of

MODEL = Path(__file__).with_name("nnunet_models") / "3d-two-folds"
SMALL = {"name": "plain-unet", "channels_in": 1, "channels_out": 2, "filters": [4, 8, 8]}
GRID = {"spacing_mm": [1.0] * 3, "intensity": [{"step": "z-score"}], "window": {"shape": [16] * 3}}
SMALL_TOLD = answers(["lesion"], architecture=SMALL, input={"orientation": "RAS", "channels": [CHANNEL], **GRID})


def saved(content: Any) -> dict[str, bytes]:
    """The entries of the archive that torch makes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(folder: Path, entries: dict[str, bytes], name: str = "model.pt", how: int = zipfile.ZIP_STORED) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", how) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return path


def with_pickle(folder: Path, data: bytes) -> Path:
    """A valid archive around a pickle of ours."""
    entries = saved({"a": torch.zeros(2)})
    return packed(folder, {name: data if name.endswith("data.pkl") else old for name, old in entries.items()})


class Program(torch.nn.Module):
    """A module of a program; pickled whole, it names its class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 2, 1)


@case(r"names '.*Program', a program's part")
def pytorch_whole_module(folder: Path, canary: Canary) -> Path:
    torch.save(Program(), folder / "model.pt")
    return folder / "model.pt"


@case(r"names '__builtin__\.exec'")
def pytorch_reduce_in_the_archive(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, canary.pickle())


@case(r"names '__builtin__\.exec'")
def pytorch_bare_pickle(folder: Path, canary: Canary) -> Path:
    (folder / "model.bin").write_bytes(canary.pickle())
    return folder / "model.bin"


@case(r"names 'os\.system'")
def pytorch_stack_global(folder: Path, canary: Canary) -> Path:
    text = f"touch {canary.file}".encode()
    code = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(text)]) + text + b"\x85R."
    return with_pickle(folder, code)


@case("uses INST, which makes objects of its own")
def pytorch_inst_opcode(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"(S'touch x'\nios\nsystem\n.")


@case("uses OBJ, which makes objects of its own")
def pytorch_obj_opcode(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02(ccollections\nOrderedDict\no.")


@case("uses NEWOBJ, which makes objects of its own")
def pytorch_newobj_opcode(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02ccollections\nOrderedDict\n)\x81.")


@case("uses EXT1, which makes objects of its own")
def pytorch_extension_opcode(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02\x82\x01.")


@case("sets the inner state of an object")
def pytorch_build_trick(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02]}X\x09\x00\x00\x00__class__X\x01\x00\x00\x00xsb.")


@case("calls what is no known function")
def pytorch_calls_a_text(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02X\x04\x00\x00\x00evil)R.")


@case(r"calls torch\.FloatStorage")
def pytorch_calls_a_storage(folder: Path, canary: Canary) -> Path:
    return with_pickle(folder, b"\x80\x02ctorch\nFloatStorage\n)R.")


@case(r"holds '.*evil\.pkl', which is no part of a checkpoint")
def pytorch_pickle_beside(folder: Path, canary: Canary) -> Path:
    entries = saved({"a": torch.zeros(2)})
    root = next(iter(entries)).split("/")[0]
    return packed(folder, {**entries, f"{root}/evil.pkl": canary.pickle()})


@case(r"it is a zip file, but no PyTorch checkpoint|no part of a checkpoint")
def pytorch_zip_slip(folder: Path, canary: Canary) -> Path:
    return packed(folder, {**saved({"a": torch.zeros(2)}), "../../outside": b"x"})


@case("is packed, which PyTorch never does")
def pytorch_zip_bomb(folder: Path, canary: Canary) -> Path:
    entries = saved({"a": torch.zeros(2)})
    root = next(iter(entries)).split("/")[0]
    return packed(folder, {**entries, f"{root}/data/9": bytes(50_000_000)}, how=zipfile.ZIP_DEFLATED)


def changed_tensor(folder: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Path:
    """A checkpoint whose one tensor claims another view of its two numbers."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def triple(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(number(value) for value in values) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(2) + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + triple(shape) + triple(stride)
    tensor += b"\x89ccollections\nOrderedDict\n)RtR"
    return with_pickle(folder, b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s.")


@case(r"claims the shape \[65536, 65536\]")
def pytorch_huge_shape(folder: Path, canary: Canary) -> Path:
    return changed_tensor(folder, (65536, 65536), (0, 0))


@case("reaches beyond its storage")
def pytorch_view_beyond_the_storage(folder: Path, canary: Canary) -> Path:
    return changed_tensor(folder, (2,), (1,), offset=1)


@case("no whole number from 0")
def pytorch_negative_stride(folder: Path, canary: Canary) -> Path:
    return changed_tensor(folder, (2,), (-1,), offset=1)


@case("missing or cut off|the archive is damaged")
def pytorch_missing_numbers(folder: Path, canary: Canary) -> Path:
    entries = saved({"a": torch.zeros(2)})
    return packed(folder, {name: data for name, data in entries.items() if "/data/" not in name})


@case("it is a TorchScript program")
def pytorch_torchscript(folder: Path, canary: Canary) -> Path:
    entries = saved({"a": torch.zeros(2)})
    root = next(iter(entries)).split("/")[0]
    code = {f"{root}/code/__torch__.py": canary.code.encode(), f"{root}/constants.pkl": b"\x80\x02)."}
    return packed(folder, {**entries, **code})


def with_nan() -> dict[str, torch.Tensor]:
    """Weights of a network of the list, one number of them spoilt."""
    state = {name: tensor.clone() for name, tensor in weights_of(build(SMALL)).items()}
    next(iter(state.values())).view(-1)[0] = float("nan")
    return state


@case("holds NaN or infinity", told=SMALL_TOLD)
def pytorch_nan_weights(folder: Path, canary: Canary) -> Path:
    torch.save(with_nan(), folder / "model.pt")
    return folder / "model.pt"


@case("holds NaN or infinity", told=SMALL_TOLD)
def safetensors_nan_weights(folder: Path, canary: Canary) -> Path:
    save_file(with_nan(), folder / "model.safetensors")
    return folder / "model.safetensors"


@case("holds no table of named tensors")
def pytorch_no_weights(folder: Path, canary: Canary) -> Path:
    torch.save({"epoch": 3, "note": "nothing else"}, folder / "model.pt")
    return folder / "model.pt"


@case("its header claims|header is not valid")
def safetensors_header_too_long(folder: Path, canary: Canary) -> Path:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b'{"a":{}}')
    return folder / "model.safetensors"


@case("a link or no plain file")
def pytorch_symlink(folder: Path, canary: Canary) -> Path:
    torch.save({"a": torch.zeros(2)}, folder / "real.pt")
    (folder / "model.pt").symlink_to(folder / "real.pt")
    return folder / "model.pt"


# --- nnU-Net --------------------------------------------------------------------------------------


TWO_CHANNELS = told_of(MODEL)
TWO_CHANNELS["input"]["channels"].append({**CHANNEL, "name": "second"})


def nnunet(folder: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a good model, spoilt."""
    target = folder / "model"
    shutil.copytree(MODEL, target)
    change(target)
    return target


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@case("fold_1 has no checkpoint_final.pth")
def nnunet_missing_fold(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: (model / "fold_1" / "checkpoint_final.pth").unlink())


@case("these are results of nnU-Net 1")
def nnunet_version_one(folder: Path, canary: Canary) -> Path:
    def change(model: Path) -> None:
        (model / "plans.json").unlink()
        (model / "plans.pkl").write_bytes(canary.pickle())

    return nnunet(folder, change)


@case("configurations is missing: these are not the plans of nnU-Net 2")
def nnunet_plans_of_another_version(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: edit(model / "plans.json", lambda table: table.pop("configurations")))


@case("labels does not count 1, 2, 3 ... without holes")
def nnunet_label_map_with_a_hole(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: edit(model / "dataset.json", lambda table: table["labels"].update(right=3)))


@case("does not fit the 2 channels of dataset.json")
def nnunet_wrong_channel_count(folder: Path, canary: Canary) -> Path:
    return nnunet(
        folder, lambda model: edit(model / "dataset.json", lambda table: table["channel_names"].update({"1": "second"}))
    )


@case("'MyPreprocessor', not DefaultPreprocessor")
def nnunet_foreign_preprocessor(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: configured(model, preprocessor_name="MyPreprocessor"))


def configured(model: Path, **values: Any) -> None:
    edit(model / "plans.json", lambda table: table["configurations"]["3d_fullres"].update(values))


@case("network_class_name is none of")
def nnunet_foreign_network(folder: Path, canary: Canary) -> Path:
    def change(model: Path) -> None:
        def rename(table: dict[str, Any]) -> None:
            table["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"

        edit(model / "plans.json", rename)

    return nnunet(folder, change)


@case("patch_size holds what is no number from 1 to 1024")
def nnunet_huge_patch(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: configured(model, patch_size=[2**40, 16, 16]))


@case("resampling_fn_data is not resample_data_or_seg_to_shape")
def nnunet_foreign_resampling(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: configured(model, resampling_fn_data="my_resampling"))


@case("is the second of a cascade|makes it the second of a cascade")
def nnunet_cascade_alone(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: configured(model, previous_stage="3d_lowres"))


@case(r"plans\.json is not valid JSON \(a key appears twice\)")
def nnunet_doubled_key(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: (model / "plans.json").write_text('{"a": 1, "a": 2}') and None)


@case("a link or no plain file")
def nnunet_symlinked_plans(folder: Path, canary: Canary) -> Path:
    def change(model: Path) -> None:
        (model / "plans.json").rename(model.parent / "plans.json")
        (model / "plans.json").symlink_to(model.parent / "plans.json")

    return nnunet(folder, change)


@case(r"names '__builtin__\.exec'")
def nnunet_pickled_payload(folder: Path, canary: Canary) -> Path:
    def change(model: Path) -> None:
        path = model / "fold_0" / "checkpoint_final.pth"
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        data = {name: canary.pickle() if name.endswith("data.pkl") else old for name, old in entries.items()}
        packed(path.parent, data, path.name)

    return nnunet(folder, change)


@case("it is no checkpoint of nnU-Net 2")
def nnunet_other_checkpoint(folder: Path, canary: Canary) -> Path:
    network = build(SMALL)

    def change(model: Path) -> None:
        torch.save({"state_dict": network.state_dict()}, model / "fold_0" / "checkpoint_final.pth")

    return nnunet(folder, change)


@case("holds NaN or infinity", told=told_of(MODEL))
def nnunet_nan_weights(folder: Path, canary: Canary) -> Path:
    def change(model: Path) -> None:
        path = model / "fold_1" / "checkpoint_final.pth"
        table = torch.load(path, map_location="cpu", weights_only=False)
        weights = table["network_weights"]
        next(value for name, value in weights.items() if name.endswith("conv.weight")).view(-1)[0] = float("inf")
        torch.save(table, path)

    return nnunet(folder, change)


@case("the answers name 2 channels, the model has 1", told=TWO_CHANNELS)
def nnunet_answers_of_another_channel_count(folder: Path, canary: Canary) -> Path:
    return nnunet(folder, lambda model: None)

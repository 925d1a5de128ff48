"""PyTorch files as data: numbers equal to torch's own, published layouts, and a round trip bit for bit."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answering import answers, do_import
from safetensors.torch import load_file, save_file

from hounsfield.architectures import build, weights_of
from hounsfield.errors import SourceRefused
from hounsfield.importing.checkpoints import read_checkpoint, states_in
from hounsfield.importing.checkpoints.naming import fit, looks_like_densenet121, prefix_of

pytestmark = pytest.mark.torch

UNET = {"name": "plain-unet", "channels_in": 1, "channels_out": 3, "filters": [4, 8, 8]}
DENSE = {"name": "densenet121", "channels_in": 1, "channels_out": 2}
GRID = {"spacing_mm": [1.0, 1.0, 1.0], "intensity": [{"step": "z-score"}], "window": {"shape": [16, 16, 16]}}


def tensors() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, 5, generator=generator)
    return OrderedDict(
        plain=base,
        turned=base.permute(2, 0, 1),
        part=base[1:3, ::2],
        one=torch.tensor(3.5),
        none=torch.zeros(0, 3),
        half=base.half(),
        brain=base.bfloat16(),
        double=base.double(),
        count=torch.tensor([7], dtype=torch.int64),
        truth=base > 0,
        parameter=torch.nn.Parameter(base[0]),
    )


@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
def test_numbers_are_torchs_own(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    content = {
        "epoch": 3,
        "note": "text",
        "best": np.float64(0.5),
        "state_dict": tensors(),
        "sizes": torch.Size([1, 2]),
    }
    torch.save(content, path, _use_new_zipfile_serialization=new)
    read = read_checkpoint(path)
    assert (read["epoch"], read["note"], float(read["best"]), read["sizes"]) == (3, "text", 0.5, (1, 2))
    for name, tensor in tensors().items():
        found = read["state_dict"][name].array()
        expected = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        np.testing.assert_array_equal(found, expected.numpy(), err_msg=name)
        assert found.flags.c_contiguous


def test_safetensors_are_read_without_their_library(tmp_path: Path) -> None:
    given = {name: tensor.detach().contiguous().clone() for name, tensor in tensors().items()}
    save_file(given, tmp_path / "a.safetensors")
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert set(read) == set(given)
    for name, tensor in given.items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(read[name].array(), expected.numpy(), err_msg=name)


def test_weights_are_found_wherever_they_lie(tmp_path: Path) -> None:
    state = {"a.weight": torch.zeros(2)}
    torch.save({"model": {"ema": state, "raw": state}, "optimizer": {"state": state}}, tmp_path / "a.pt")
    assert [found.place for found in states_in(read_checkpoint(tmp_path / "a.pt"))] == ["model.ema", "model.raw"]


def chexnet(network: torch.nn.Module) -> OrderedDict[str, torch.Tensor]:
    """Our DenseNet-121's weights under the names of the published CheXNet checkpoint of 2017."""
    out = OrderedDict()
    for name, tensor in network.state_dict().items():
        old = name.replace(".layers.", ".").replace("class_layers.out", "classifier.0")
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in old:
                old = old.replace(f".{part}.", f".{part[:4]}.{part[4]}.")
        if not old.endswith("num_batches_tracked"):  # torch before 0.4.1 had none
            out[f"module.densenet121.{old}"] = tensor
    return out


def class_answers(**more: Any) -> dict[str, Any]:
    code = {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"}
    given = answers([], channels=[{"name": "cr", "modality": "CR", "quantity": "arbitrary"}], modality="CR", **more)
    given["input"] |= {
        "orientation": "LPS",
        "fit": True,
        "interpolation": "area",
        "intensity": [{"step": "z-score"}],
        "window": {"shape": [1, 64, 64]},
    }
    classes = [{"label": label, "concept": code} for label in ("pneumonia", "effusion")]
    given["output"] = {"activation": "sigmoid", "classes": classes}
    return given


def test_a_chexnet_checkpoint_comes_back_bit_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(DENSE)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    path = tmp_path / "model.pth.tar"
    torch.save({"state_dict": chexnet(network), "best_loss": 0.1, "epoch": 4}, path)
    result = do_import(path, tmp_path, class_answers())
    assert result.package is not None
    assert "DenseNet-121, 1 channels, 2 classes" in result.claim.found[0][1]
    assert result.package.manifest.task == "classification"
    found = load_file(result.package.root / "weights.safetensors")
    own = weights_of(network)
    assert set(found) == set(own)
    for name, tensor in own.items():
        assert torch.equal(found[name], tensor), name


def test_torchxrayvision_names_fit_too() -> None:
    network = build(DENSE)
    theirs = OrderedDict()
    for name, tensor in network.state_dict().items():
        theirs[name.replace(".layers.", ".").replace("class_layers.out", "classifier")] = tensor
    theirs["op_threshs"] = torch.zeros(2)
    assert looks_like_densenet121({name: tuple(tensor.shape) for name, tensor in theirs.items()}) == (1, 2)
    wanted = {name: tuple(tensor.shape) for name, tensor in weights_of(network).items()}
    found = fit({name: _Shaped(tuple(tensor.shape)) for name, tensor in theirs.items()}, wanted, "densenet121")  # type: ignore[misc]
    assert set(found.names) == set(wanted)
    assert any("op_threshs" in fact for fact in found.facts)


class _Shaped:
    """A tensor by its shape alone."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def same_as(self, other: object) -> bool:
        return self is other


def test_every_mismatch_is_listed() -> None:
    wanted = {"a.weight": (2,), "b.weight": (3,), "c.weight": (4,)}
    given = {"m.a.weight": _Shaped((2,)), "m.b.weight": _Shaped((5,)), "m.d.weight": _Shaped((1,))}
    with pytest.raises(SourceRefused) as caught:
        fit(given, wanted, "plain-unet")  # type: ignore[arg-type]
    line = str(caught.value)
    assert "missing c.weight" in line
    assert "left over m.d.weight" in line
    assert "m.b.weight has shape [5], not [3]" in line


def test_the_prefix_is_what_makes_most_names_fit() -> None:
    wanted = {"a.weight": (), "b.weight": ()}
    assert prefix_of({"module.net.a.weight": (), "module.net.b.weight": ()}, wanted, "x") == "module.net."
    assert prefix_of({"a.weight": (), "b.weight": ()}, wanted, "x") == ""


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = build(UNET).state_dict()
    next(iter(state.values()))[0] = float("nan")
    torch.save(state, tmp_path / "u.pt")
    given = answers(["a", "b"], architecture=UNET)
    given["input"] |= {"orientation": "RAS", **GRID}
    with pytest.raises(SourceRefused, match="holds NaN or infinity"):
        do_import(tmp_path / "u.pt", tmp_path, given)
    assert not (tmp_path / "packages").exists()


def test_a_network_of_the_list_is_imported_with_its_answers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(UNET)
    torch.save(
        {"state_dict": {f"model.{name}": one for name, one in network.state_dict().items()}}, tmp_path / "u.ckpt"
    )
    given = answers(["a", "b"], architecture=UNET)
    given["input"] |= {"orientation": "RAS", **GRID}
    result = do_import(tmp_path / "u.ckpt", tmp_path, given)
    assert result.package is not None
    assert {golden.engine for golden in result.goldens} == {"onnxruntime", "openvino"}
    assert "seccomp" in result.locks
    found = load_file(result.package.root / "weights.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights_of(network).items())

"""Sources that are programs or locked to one framework: never imported, always with the way out."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hounsfield.errors import SourceRefused
from hounsfield.importing.answers import Answers
from hounsfield.importing.claim import Claim
from hounsfield.importing.draft import Draft

HEAVY: tuple[str, ...] = ()

_ONNX = "export the network as ONNX with the framework that made it, where you trust it, and import that"
_TORCH = (
    "where you trust it, in its own environment: torch.onnx.export(torch.jit.load(FILE) or "
    "torch.export.load(FILE).module(), example, 'model.onnx', opset_version=18), and import that"
)
_KINDS = {
    ".pt2": ("an exported PyTorch program (torch.export), which is code", _TORCH),
    ".ptl": ("a TorchScript program, which is code", _TORCH),
    ".torchscript": ("a TorchScript program, which is code", _TORCH),
    ".ts": ("a TorchScript program, which is code", _TORCH),
    ".h5": ("a Keras model, which may hold Python code", _ONNX),
    ".hdf5": ("a Keras model, which may hold Python code", _ONNX),
    ".keras": ("a Keras model, which may hold Python code", _ONNX),
    ".pb": ("a TensorFlow graph", _ONNX),
    ".tflite": ("a TensorFlow Lite model", _ONNX),
    ".mlmodel": ("a Core ML model", _ONNX),
    ".engine": ("a TensorRT engine, which is machine code", _ONNX),
    ".plan": ("a TensorRT engine, which is machine code", _ONNX),
    ".pkl": ("a Python pickle, which can run any code", _ONNX),
    ".pickle": ("a Python pickle, which can run any code", _ONNX),
    ".joblib": ("a Python pickle, which can run any code", _ONNX),
    ".py": ("a Python program", _ONNX),
    ".ipynb": ("a Python program", _ONNX),
    ".zip": ("an archive, which is not unpacked here", "unpack it and give the folder or file that holds the model"),
    ".tar": ("an archive, which is not unpacked here", "unpack it and give the folder or file that holds the model"),
    ".gz": ("an archive, which is not unpacked here", "unpack it and give the folder or file that holds the model"),
    ".tgz": ("an archive, which is not unpacked here", "unpack it and give the folder or file that holds the model"),
    ".mar": ("an archive with a program", _ONNX),
    ".nemo": ("an archive with a program", _ONNX),
}


def claims(source: Path) -> Claim | None:
    """Never a claim: refuse what is known to be a program, by name or as TorchScript inside a zip.

    Raises
    ------
    SourceRefused
        With how to get an ONNX.
    """
    if source.is_dir():
        if (source / "saved_model.pb").exists():
            raise SourceRefused("it is a TensorFlow SavedModel", _ONNX, source)
        return None
    found = _KINDS.get(source.suffix.lower())
    if found is None or (source.suffix.lower() == ".tar" and not _is_tar(source)):
        found = ("a TorchScript program, which is code", _TORCH) if _is_script(source) else None
    if found is not None:
        raise SourceRefused(f"it is {found[0]}", found[1], source)
    return None


def convert(source: Path, answers: Answers, folder: Path) -> Draft:
    """Never called, since nothing is claimed; refuses all the same.

    Raises
    ------
    SourceRefused
        Always.
    """
    raise SourceRefused("it is a program", _ONNX, source)


def _is_tar(source: Path) -> bool:
    """Whether a ``.tar`` is an archive; checkpoints of old papers carry that suffix too."""
    with source.open("rb") as file:
        return file.read(262)[257:262] == b"ustar"


def _is_script(source: Path) -> bool:
    with source.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(source) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()[:200_000]}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return "constants.pkl" in names or any(name.startswith("code/") for name in names)

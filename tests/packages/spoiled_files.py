"""Files that a package must never hold, and digests that lie."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

from spoiling import MARKER, Payload, hostile

from hounsfield.errors import PackageInvalid, PackageRefused


@hostile(PackageRefused, "a Python file")
def python_file(root: Path) -> None:
    (root / "model.py").write_text(f"open('{MARKER}', 'w')")


@hostile(PackageRefused, "a program or library")
def shared_library(root: Path) -> None:
    (root / "graphs/custom_ops.so").write_bytes(b"\x7fELF" + bytes(60))


@hostile(PackageRefused, "a program or library")
def versioned_library(root: Path) -> None:
    (root / "graphs/libop.so.1").write_bytes(bytes(60))


@hostile(PackageRefused, "ELF")
def elf_named_data(root: Path) -> None:
    (root / "graphs/fp32.data").write_bytes(b"\x7fELF" + bytes(60))


@hostile(PackageRefused, "PE")
def windows_program_named_data(root: Path) -> None:
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0"
    (root / "graphs/fp32.data").write_bytes(head)


@hostile(PackageRefused, "pickle")
def pickle_by_name(root: Path) -> None:
    (root / "weights.pkl").write_bytes(pickle.dumps(Payload()))


@hostile(PackageRefused, "pickle")
def pickle_named_safetensors(root: Path) -> None:
    (root / "weights.safetensors").write_bytes(pickle.dumps(Payload(), protocol=4))


@hostile(PackageRefused, "pickle")
def old_pickle_named_card(root: Path) -> None:
    (root / "card.md").write_bytes(pickle.dumps(Payload(), protocol=0))


@hostile(PackageRefused, "pickle")
def pickle_named_evidence(root: Path) -> None:
    (root / "evidence/fp32.json").write_bytes(pickle.dumps(Payload(), protocol=2))


@hostile(PackageRefused, "pickle")
def pickle_named_graph(root: Path) -> None:
    (root / "graphs/fp32.onnx").write_bytes(pickle.dumps(Payload(), protocol=5))


@hostile(PackageRefused, "a pickle or a checkpoint")
def torch_checkpoint_by_name(root: Path) -> None:
    (root / "model.pt").write_bytes(b"PK\x03\x04")


@hostile(PackageRefused, "zip archive")
def torch_checkpoint_named_safetensors(root: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
    (root / "weights.safetensors").write_bytes(stream.getvalue())


@hostile(PackageRefused, "zip archive behind other bytes")
def zip_behind_a_card(root: Path) -> None:
    stream = io.BytesIO((root / "card.md").read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("__main__.py", f"open('{MARKER}', 'w')")
    (root / "card.md").write_bytes(stream.getvalue())


@hostile(PackageRefused, "gzip")
def gzip_named_graph(root: Path) -> None:
    (root / "graphs/fp32.onnx").write_bytes(gzip.compress(bytes(1000)))


@hostile(PackageRefused, "a script")
def script_named_card(root: Path) -> None:
    (root / "card.md").write_text(f"#!/bin/sh\ntouch {MARKER}\n")


@hostile(PackageRefused, "Python source")
def python_named_card(root: Path) -> None:
    (root / "card.md").write_text("# a card\nimport os\n")


@hostile(PackageRefused, "active HTML")
def html_in_card(root: Path) -> None:
    (root / "card.md").write_text("# a card\n<ScRipt>alert(1)</script>\n")


@hostile(PackageRefused, "control characters")
def terminal_codes_in_card(root: Path) -> None:
    (root / "card.md").write_bytes(b"# a card\n\x1b]0;owned\x07\n")


@hostile(PackageRefused, "no place for the folder 'scripts'")
def other_folder(root: Path) -> None:
    (root / "scripts").mkdir()


@hostile(PackageRefused, "'graphs/deep' is not a plain file")
def nested_folder(root: Path) -> None:
    (root / "graphs/deep").mkdir()


@hostile(PackageRefused, "no place for the file '.hidden'")
def hidden_file(root: Path) -> None:
    (root / ".hidden").write_text("x")


@hostile(PackageRefused, "\\x1b[31m")
def terminal_codes_in_a_name(root: Path) -> None:
    (root / "graphs/\x1b[31m\n.onnx").write_bytes(b"x")


@hostile(PackageRefused, "is a link")
def link_to_a_file(root: Path) -> None:
    (root / "card.md").unlink()
    (root / "card.md").symlink_to("/etc/hostname")


@hostile(PackageRefused, "link")
def link_to_a_folder(root: Path) -> None:
    (root / "graphs").rename(root.parent / "elsewhere")
    (root / "graphs").symlink_to(root.parent / "elsewhere")


@hostile(PackageRefused, "not a plain file")
def named_pipe(root: Path) -> None:
    os.mkfifo(root / "graphs/fp16.onnx")


@hostile(PackageRefused, "differ only in case")
def colliding_names(root: Path) -> None:
    (root / "graphs/FP32.onnx").write_bytes(b"x")


@hostile(PackageRefused, "more than 200 files")
def too_many_files(root: Path) -> None:
    for number in range(201):
        (root / f"evidence/{number}.json").write_text("{}")


@hostile(PackageRefused, "more than the 1048576 allowed")
def huge_card(root: Path) -> None:
    with (root / "card.md").open("wb") as file:
        file.truncate(2**20 + 1)


@hostile(PackageRefused, "more than the 2147483647 allowed", digests=False)
def huge_sparse_graph(root: Path) -> None:
    with (root / "graphs/fp32.onnx").open("wb") as file:
        file.truncate(2**33)


@hostile(PackageInvalid, "its sha256 is not the listed one", digests=False)
def one_byte_changed(root: Path) -> None:
    data = bytearray((root / "graphs/fp32.onnx").read_bytes())
    data[-20] ^= 1
    (root / "graphs/fp32.onnx").write_bytes(data)


@hostile(PackageInvalid, "'card.md' is missing", digests=False)
def file_missing(root: Path) -> None:
    (root / "card.md").unlink()


@hostile(PackageInvalid, "'graphs/extra.onnx' is not listed", digests=False)
def file_extra(root: Path) -> None:
    (root / "graphs/extra.onnx").write_bytes(b"x")


@hostile(PackageInvalid, "has no digests.json", digests=False)
def no_digests(root: Path) -> None:
    (root / "digests.json").unlink()


@hostile(PackageInvalid, "not in the canonical form", digests=False)
def digests_with_a_key_twice(root: Path) -> None:
    text = (root / "digests.json").read_text()
    (root / "digests.json").write_text(text.replace('"card.md"', '"card.md": "' + "0" * 64 + '",\n  "card.md"'))


@hostile(PackageRefused, "../outside", digests=False)
def digests_of_a_path_outside(root: Path) -> None:
    table = json.loads((root / "digests.json").read_text())
    table["sha256"]["../outside"] = "0" * 64
    table["sha256"] = dict(sorted(table["sha256"].items()))
    (root / "digests.json").write_text(json.dumps(table, indent=1) + "\n")


@hostile(PackageInvalid, "not a table of sha256", digests=False)
def digests_nested_deeply(root: Path) -> None:
    (root / "digests.json").write_text("[" * 30_000)

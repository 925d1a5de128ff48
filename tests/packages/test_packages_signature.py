"""ed25519 signatures: made, compared, refused, and honest when they cannot be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from package_variants import edit_manifest, redigest

from hounsfield.errors import PackageError, PackageInvalid, PackageRefused, SettingsError
from hounsfield.packages import ModelPackage, build, install, open_package, pack, verify
from hounsfield.testing.packages import tiny_files, tiny_manifest


def _key(folder: Path, name: str) -> tuple[Path, Path]:
    """A key pair made by another program."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: _key(folder, name) for name in ("mine", "other")}


@pytest.fixture
def signed(tmp_path: Path, keys: dict[str, tuple[Path, Path]]) -> ModelPackage:
    return build(tmp_path, tiny_manifest(), tiny_files(), private_key=keys["mine"][0])


def test_a_signed_package_is_known_by_its_key(
    signed: ModelPackage, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    assert signed.signature is not None
    assert "nobody vouched for it" in signed.signed
    assert signed.signature.fingerprint in signed.signed
    trusted = install(pack(signed, tmp_path / "x.zip"), store=tmp_path / "store", trusted_key=keys["mine"][1])
    assert open_package("tiny-levels", store=tmp_path / "store").signature == signed.signature
    assert verify(trusted.root, trusted_key=keys["mine"][1]).signed.startswith("signed by the given key")


def test_openssl_agrees_with_the_signature(
    signed: ModelPackage, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    table = json.loads((signed.root / "signature.ed25519").read_text())
    (tmp_path / "sig").write_bytes(bytes.fromhex(table["signature"]))
    (tmp_path / "msg").write_bytes(b"hounsfield model package 1\n" + (signed.root / "digests.json").read_bytes())
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys["mine"][1], "-rawin"]
    result = subprocess.run([*command, "-in", tmp_path / "msg", "-sigfile", tmp_path / "sig"], capture_output=True)
    assert result.returncode == 0, result.stderr


def test_an_unsigned_package_says_so(tmp_path: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    package = build(tmp_path, tiny_manifest(), tiny_files())
    assert package.signed == "unsigned"
    with pytest.raises(PackageInvalid, match="it is unsigned"):
        verify(package.root, trusted_key=keys["mine"][1])


def test_another_key_is_refused(signed: ModelPackage, keys: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(PackageRefused, match="another key"):
        verify(signed.root, trusted_key=keys["other"][1])


def test_a_change_after_signing_is_refused(signed: ModelPackage) -> None:
    edit_manifest(signed.root, "Tests only.", "For diagnosis.")
    redigest(signed.root)
    with pytest.raises(PackageRefused, match="the signature does not fit"):
        verify(signed.root)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 3000, b'{"public_key": "zz", "signature": "00"}', b"\xff"])
def test_a_malformed_signature_is_refused(data: bytes, signed: ModelPackage) -> None:
    (signed.root / "signature.ed25519").write_bytes(data)
    with pytest.raises(PackageInvalid, match="not a signature of the format"):
        verify(signed.root)


def test_a_file_that_is_no_key(tmp_path: Path, signed: ModelPackage) -> None:
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(SettingsError, match="no unencrypted PEM private key"):
        build(tmp_path / "x", tiny_manifest(), tiny_files(), private_key=tmp_path / "no.pem")
    with pytest.raises(SettingsError, match="no PEM public key"):
        verify(signed.root, trusted_key=tmp_path / "no.pem")
    with pytest.raises(SettingsError, match="cannot be read"):
        verify(signed.root, trusted_key=tmp_path / "absent.pem")
    assert not any((tmp_path / "x").iterdir())


def test_without_the_extra_a_signature_counts_as_not_checked(
    signed: ModelPackage, keys: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "not checked: pip install 'hounsfield[signing]'" in verify(signed.root).signed
    with pytest.raises(PackageError, match=r"pip install 'hounsfield\[signing\]'"):
        verify(signed.root, trusted_key=keys["mine"][1])
    with pytest.raises(PackageError, match=r"pip install 'hounsfield\[signing\]'"):
        build(tmp_path / "x", tiny_manifest(), tiny_files(), private_key=keys["mine"][0])

"""An optional ed25519 signature (RFC 8032) over ``digests.json``: who built the package.

The file ``signature.ed25519`` holds the public key and the signature in hex. A signature that does
not fit is refused always; that a key belongs to somebody is for the user to say, with a public
key file that reached them by another way. Needs the extra ``signing``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hounsfield.errors import PackageError, PackageInvalid, PackageRefused, SettingsError
from hounsfield.packages.inventory import DIGESTS, SIGNATURE, read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

INSTALL = "pip install 'hounsfield[signing]'"
_CONTEXT = b"hounsfield model package 1\n"
_MOST_KEY_BYTES = 16 * 1024
_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519"


@dataclass(frozen=True)
class Signature:
    """A package's signature.

    Parameters
    ----------
    public_key
        The signer's ed25519 public key, 32 bytes in hex.
    fits
        Whether it was compared with the package (True), or could not be because the extra
        ``signing`` is absent (False). One that does not fit never gets here.
    trusted
        Whether the key is the one that the user gave.
    """

    public_key: str
    fits: bool
    trusted: bool

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the key's sha256, to read aloud."""
        return hashlib.sha256(bytes.fromhex(self.public_key)).hexdigest()[:16]

    def __str__(self) -> str:
        if self.trusted:
            return f"signed by the given key {self.fingerprint}"
        if self.fits:
            return f"signed by key {self.fingerprint}, nobody vouched for it here"
        return f"signed by key {self.fingerprint}, not checked: {INSTALL}"


def sign(digests: bytes, private_key: Path) -> bytes:
    """The content of ``signature.ed25519`` for the bytes of ``digests.json``.

    Parameters
    ----------
    private_key
        An unencrypted PEM file (PKCS #8) with an ed25519 key.

    Raises
    ------
    SettingsError
        If the key file is not one.
    PackageError
        If the extra ``signing`` is absent.
    """
    key = _private(private_key)
    public = key.public_key().public_bytes_raw().hex()
    table = {"public_key": public, "signature": key.sign(_CONTEXT + digests).hex()}
    return (json.dumps(table, indent=1) + "\n").encode("ascii")


def check_signature(root: Path, trusted_key: Path | None = None) -> Signature:
    """Check ``signature.ed25519`` of a package folder against its ``digests.json``.

    Raises
    ------
    PackageInvalid
        If the file does not follow the form.
    PackageRefused
        If the signature does not fit, or is not by ``trusted_key``.
    PackageError
        If a key was given and the extra ``signing`` is absent.
    """
    path = root / SIGNATURE
    public, value = _decoded(read_small(root, SIGNATURE), path)
    expected = None if trusted_key is None else _public(trusted_key).public_bytes_raw().hex()
    if expected is not None and expected != public:
        raise PackageRefused(fact="it is signed by another key than the given one", remedy="do not use it", path=path)
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return Signature(public, fits=False, trusted=False)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(value), _CONTEXT + read_small(root, DIGESTS)
        )
    except (InvalidSignature, ValueError) as error:
        raise PackageRefused(
            fact="the signature does not fit the package", remedy="do not use it", path=path
        ) from error
    return Signature(public, fits=True, trusted=expected is not None)


def _decoded(data: bytes, path: Path) -> tuple[str, str]:
    try:
        table = json.loads(data.decode("ascii"))
        public, value = table["public_key"], table["signature"]
        good = re.fullmatch(r"[0-9a-f]{64}", public) and re.fullmatch(r"[0-9a-f]{128}", value) and len(table) == 2
    except (ValueError, TypeError, KeyError, RecursionError):
        good = None
    if not good:
        raise PackageInvalid(fact="it is not a signature of the format", remedy="sign the package again", path=path)
    return public, value


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise PackageError(fact="signing needs the extra 'signing'", remedy=INSTALL) from error
    try:
        key = load_pem_private_key(_key_bytes(path), password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            fact="it is no unencrypted PEM private key",
            remedy=_MAKE_KEY,
            path=path,
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(fact="the key is not ed25519", remedy=_MAKE_KEY, path=path)
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise PackageError(fact="checking a key needs the extra 'signing'", remedy=INSTALL) from error
    try:
        key = load_pem_public_key(_key_bytes(path))
    except ValueError as error:
        raise SettingsError(fact="it is no PEM public key", remedy="give the signer's public key", path=path) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(fact="the key is not ed25519", remedy="give the signer's ed25519 public key", path=path)
    return key


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise SettingsError(
            fact=f"the key cannot be read ({error.strerror})", remedy="check the path", path=path
        ) from error

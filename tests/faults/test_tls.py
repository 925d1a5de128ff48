"""TLS on associations: mutual, 1.2 or newer; whoever shows less is refused, and the node goes on."""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hounsfield.network.destinations import Destination, TlsFiles
from hounsfield.network.store_scu import echo, server_context

from .running import Receiver
from .scu import Scu

_NOW = dt.datetime.now(dt.UTC)


def authority(folder: Path, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = _builder(subject, subject, key, _NOW + dt.timedelta(days=1))
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    found = built.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(found.public_bytes(serialization.Encoding.PEM))
    return found, key


def certificate(
    folder: Path, name: str, by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey], *, expired: bool = False
) -> TlsFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = _NOW - dt.timedelta(hours=1) if expired else _NOW + dt.timedelta(days=1)
    built = _builder(subject, by[0].subject, key, ends)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = built.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by[1].public_key()), critical=False)
    found = built.add_extension(address, critical=False).sign(by[1], hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(found.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(*pem))
    return TlsFiles(folder / "ours.pem", folder / f"{name}.pem", folder / f"{name}.key")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - dt.timedelta(days=2))
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def test_only_peers_with_a_good_certificate_have_an_association(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path, "ours"), authority(tmp_path, "theirs")
    node, good = certificate(tmp_path, "node", ours), certificate(tmp_path, "good", ours)
    strange, old = certificate(tmp_path, "strange", theirs), certificate(tmp_path, "old", ours, expired=True)
    with Receiver(tmp_path / "node", {"tls": server_context(node)}) as receiver:

        def asks(files: TlsFiles | None) -> bool:
            there = Destination("n", "dicom", "HOUNSFIELD", "127.0.0.1", receiver.port, tls=files, timeout_s=5.0)
            return echo(there).delivered

        assert asks(good)
        assert not asks(None)
        assert not asks(strange)
        assert not asks(old)
        assert not asks(TlsFiles(good.authorities))  # shows no certificate
        assert not asks(TlsFiles(tmp_path / "theirs.pem", good.certificate, good.key))  # trusts others
        with pytest.raises(OSError, match=r"."), Scu(receiver.port, timeout=5):
            pass
        words = ["+tls", str(good.key), str(good.certificate), "+cf", str(tmp_path / "ours.pem")]
        dcmtk = ["echoscu", *words, "127.0.0.1", str(receiver.port)]
        assert subprocess.run(dcmtk, check=False, timeout=30, capture_output=True).returncode == 0
        assert asks(good)

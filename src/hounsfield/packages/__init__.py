"""Model packages: data, never programs. Build, verify, install, open."""

from hounsfield.packages.archive import pack
from hounsfield.packages.building import build
from hounsfield.packages.evidence import Evidence, evidence_json, parse_evidence
from hounsfield.packages.manifest import Manifest, Precision, json_schema
from hounsfield.packages.manifest_text import manifest_toml, parse_manifest
from hounsfield.packages.package import ModelPackage
from hounsfield.packages.signature import Signature
from hounsfield.packages.store import Installed, install, installed, open_package
from hounsfield.packages.verifying import verify

__all__ = [
    "Evidence",
    "Installed",
    "Manifest",
    "ModelPackage",
    "Precision",
    "Signature",
    "build",
    "evidence_json",
    "install",
    "installed",
    "json_schema",
    "manifest_toml",
    "open_package",
    "pack",
    "parse_evidence",
    "parse_manifest",
    "verify",
]

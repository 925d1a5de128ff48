"""What the OpenAPI says of bodies that are read as they come, block by block."""

from __future__ import annotations

from typing import Any, Final


def _body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


_BYTES: Final = {"type": "string", "format": "binary"}
_ELEMENT: Final = {
    "type": "object",
    "properties": {"vr": {"type": "string"}, "Value": {"type": "array"}},
    "required": ["vr"],
}
#: A file as it is.
FILE: Final = _body("application/octet-stream", _BYTES)
#: Instances as PS3.18 8.6.1 says.
INSTANCES: Final = _body('multipart/related; type="application/dicom"', _BYTES)
#: One data set in the DICOM JSON Model (PS3.18 annex F).
DATA_SET: Final = _body(
    "application/dicom+json",
    {
        "type": "object",
        "patternProperties": {"^[0-9A-F]{8}$": _ELEMENT},
        "additionalProperties": False,
    },
)

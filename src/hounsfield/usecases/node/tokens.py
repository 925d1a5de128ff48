"""Who may use a node's web interface: tokens with a role, of which the node keeps only digests.

A token is 256 random bits, so its SHA-256 gives nothing away; it is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from hounsfield.audit import AuditEvent
from hounsfield.errors import SettingsError
from hounsfield.usecases.node.opening import Node

Role = Literal["viewer", "sender", "reviewer", "operator", "admin"]
ROLES: Final[tuple[str, ...]] = get_args(Role)
#: What each role may do besides what is its own.
_ALSO: Final[dict[str, tuple[str, ...]]] = {
    "viewer": (),
    "sender": (),
    "reviewer": ("viewer",),
    "operator": ("viewer", "sender"),
    "admin": ("viewer", "sender", "reviewer", "operator"),
}
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Token:
    """One token: ``viewer`` looks, ``sender`` stores instances, ``operator`` does both and acts on jobs,
    ``reviewer`` looks and judges results, ``admin`` does all of it and more.
    """

    name: str
    role: str
    sha256: str

    def may(self, needed: Role) -> bool:
        """Whether it is enough for what needs this role."""
        return may(self.role, needed)


def may(role: str, needed: str) -> bool:
    """Whether a role is enough for what needs another."""
    return role == needed or needed in _ALSO.get(role, ())


def read_tokens(root: Path) -> tuple[Token, ...]:
    """The tokens of a node; none if none was made.

    Raises
    ------
    SettingsError
        If the file is damaged, or others than its owner can read it.
    """
    path = root / "tokens.json"
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError("others can read the tokens", "chmod 600 it", path)
        return tuple(Token(**one) for one in json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError("the tokens cannot be read", "remove the file and make new ones", path) from error


def add_token(node: Node, name: str, role: str, who: str) -> str:
    """Make a token and return it; it cannot be shown again.

    Raises
    ------
    SettingsError
        If the name is taken or malformed, or there is no such role.
    """
    tokens = read_tokens(node.root)
    if not _NAME.fullmatch(name) or any(one.name == name for one in tokens):
        raise SettingsError(f"{name!r} is taken, or no name", "choose another, of small letters, digits and hyphens")
    if role not in ROLES:
        raise SettingsError(f"{role!r} is no role", f"choose one of {', '.join(ROLES)}")
    secret = secrets.token_urlsafe(32)
    _write(node, (*tokens, Token(name, role, _digest(secret))))
    node.audit(AuditEvent("user-authentication", who, {"activity": "token made", "token": name, "role": role}))
    return secret


def remove_token(node: Node, name: str, who: str) -> None:
    """Take a token back; the web interface refuses it from the next request on.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    tokens = read_tokens(node.root)
    left = tuple(one for one in tokens if one.name != name)
    if len(left) == len(tokens):
        raise SettingsError(
            f"there is no token {name!r}", f"there are: {', '.join(one.name for one in tokens) or 'none'}"
        )
    _write(node, left)
    node.audit(AuditEvent("user-authentication", who, {"activity": "token removed", "token": name}))


def find_token(root: Path, secret: str) -> Token | None:
    """The token that a request shows, if it is one of the node's."""
    digest, found = _digest(secret), None
    for one in read_tokens(root):
        if hmac.compare_digest(one.sha256, digest):
            found = one
    return found


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _write(node: Node, tokens: tuple[Token, ...]) -> None:
    path = node.root / "tokens.json"
    temporary = path.with_name(f".{secrets.token_hex(4)}.tokens.json")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(json.dumps([asdict(one) for one in tokens], indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)

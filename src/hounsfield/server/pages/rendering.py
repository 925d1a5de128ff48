"""Templates to HTML: everything from outside is escaped, nothing is inline, nothing comes from elsewhere."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from hounsfield.server.access import Caller
from hounsfield.version import __version__

#: What a page may do: run and show what this server has, nothing else. The viewer makes images from
#: bytes it already has (``blob:``, ``data:``), and compiles its decoders (``wasm-unsafe-eval``).
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def render(request: Request, template: str, caller: Caller | None, status: int = 200, **values: Any) -> HTMLResponse:
    """A page or a part of one."""
    shown = {**values, "caller": caller, "version": __version__, "path": request.url.path}
    page = _environment().get_template(template).render(shown)
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
    return HTMLResponse(page, status, headers=headers)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("hounsfield.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"age": age, "size": size, "span": span, "moment": moment, "percent": percent}
    made.filters.update(filters)
    return made


def age(at: float, now: float | None = None) -> str:
    """How long ago, in the largest unit that fits: ``3 min``."""
    return span(max(0.0, (time.time() if now is None else now) - at))


def span(seconds: float) -> str:
    """A time in the largest unit that fits."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def moment(at: float) -> str:
    """A time for people, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def percent(share: float) -> str:
    """A share as whole percent."""
    return f"{100 * share:.0f} %"


def as_query(values: Mapping[str, Any]) -> str:
    """A query string of what is not empty."""
    from urllib.parse import urlencode

    return urlencode({key: value for key, value in values.items() if value not in ("", None)})

"""Settings: frozen, read once at a door, handed over. The only reader of the environment.

A setting comes, first found first taken, from the environment (``HOUNSFIELD_ENGINE``), from
``hounsfield.toml`` in the home folder, or from the default beside the field. The home folder is
``HOUNSFIELD_HOME``, else ``$XDG_DATA_HOME/hounsfield``, else ``~/.local/share/hounsfield``. No
file of the working folder is read: a folder of scans must not be able to set anything.
Unknown keys are errors with a proposal, in the file and in the environment.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hounsfield.errors import SettingsError

PREFIX = "HOUNSFIELD_"
FILE_NAME = "hounsfield.toml"
_MOST_FILE_BYTES = 64 * 1024
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Settings:
    """What a machine's owner may choose once for all runs.

    Parameters
    ----------
    home
        Folder of the user's store (``packages/``) and caches. Only from the environment.
    engine
        Name of the inference engine to prefer; empty lets the plan choose.
    threads
        CPU threads for inference and decoding; 0 means all that the process may use.
    """

    home: Path
    engine: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= _MOST_THREADS:
            raise SettingsError(
                fact=f"threads is {self.threads}", remedy=f"give a whole number from 0 (all) to {_MOST_THREADS}"
            )

    @property
    def packages(self) -> Path:
        """Folder of the installed model packages."""
        return self.home / "packages"


_IN_FILE = tuple(field.name for field in fields(Settings) if field.name != "home")


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment and ``hounsfield.toml``.

    Parameters
    ----------
    environment
        Stands in for ``os.environ``, for tests.

    Raises
    ------
    SettingsError
        For an unknown key (with a proposal), a value of the wrong kind, or a damaged file.
    """
    given = os.environ if environment is None else environment
    own = {key[len(PREFIX) :].lower(): value for key, value in given.items() if key.startswith(PREFIX)}
    for key in own:
        if key not in (*_IN_FILE, "home"):
            raise _unknown(PREFIX + key.upper(), [PREFIX + name.upper() for name in (*_IN_FILE, "home")], None)
    home = _home(own.pop("home", ""), given)
    values: dict[str, Any] = {**_from_file(home / FILE_NAME), **own}
    return Settings(home=home, **{key: _typed(key, value, home / FILE_NAME) for key, value in values.items()})


def _home(own: str, environment: Mapping[str, str]) -> Path:
    if own:
        home = Path(own).expanduser()
        if not home.is_absolute():
            raise SettingsError(fact=f"{PREFIX}HOME is not an absolute path", remedy="give a full path", path=home)
        return home
    data = environment.get("XDG_DATA_HOME", "")
    base = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "hounsfield"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(
            fact=f"the settings cannot be read ({error.strerror})", remedy="repair or remove the file", path=path
        ) from error
    if len(data) > _MOST_FILE_BYTES:
        raise SettingsError(fact="the settings file is too large", remedy="repair or remove it", path=path)
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            fact=f"the settings are not TOML ({error})", remedy="repair or remove the file", path=path
        ) from error
    for key in values:
        if key not in _IN_FILE:
            raise _unknown(key, list(_IN_FILE), path)
    return values


def _typed(key: str, value: Any, path: Path) -> Any:
    if key == "threads":
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise SettingsError(fact="threads is not a whole number", remedy="give a number such as 4", path=path)
        if isinstance(value, str) and not (value.isascii() and value.isdigit()):
            raise SettingsError(fact=f"{PREFIX}THREADS is not a whole number", remedy="give a number such as 4")
        return int(value)
    if not isinstance(value, str):
        raise SettingsError(fact=f"{key} is not a text", remedy=f'write {key} = "..."', path=path)
    return value


def _unknown(key: str, known: list[str], path: Path | None) -> SettingsError:
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"the settings are: {', '.join(sorted(known))}"
    return SettingsError(fact=f"{key!r} is not a setting", remedy=remedy, path=path)

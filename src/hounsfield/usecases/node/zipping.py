"""A folder as one zip file, for a browser that can only take files."""

from __future__ import annotations

import zipfile
from pathlib import Path


def zip_folder(folder: Path, target: Path) -> None:
    """Write every file below a folder into a zip, stored as it is, by its path within the folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))

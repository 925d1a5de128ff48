"""What all tables of ``manifest.toml`` are made of: the strict base, codes, and kinds of numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=65535)]
Shade = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Shade, Shade, Shade]


class Table(BaseModel):
    """A table without unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())


class Code(Table):
    """A coded concept: value, coding scheme designator, meaning (PS3.3 section 8)."""

    value: Annotated[str, Field(min_length=1, max_length=16)]
    scheme: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]
    meaning: Label

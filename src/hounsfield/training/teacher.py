"""The table ``[teacher]`` of a recipe: a package that teaches a smaller network what it knows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hounsfield.packages.manifest import Finite, Fraction, Text, _Table

NotNegative = Annotated[Finite, Field(ge=0)]


class Teacher(_Table):
    """Learn from a package's answers besides the labels (distillation; Hinton 2015).

    ``package`` is a folder relative to the recipe, or an installed model; it must read the same channels, spacing
    and intensities. ``start`` says where the weights come from: ``teacher``, the teacher's strongest channels,
    which needs a narrower copy of its network; or ``recipe``, at random or from ``[transfer]``. ``share`` is how
    much of the loss is the distance to the teacher's softened answer; the rest is that to the labels.
    ``features`` weighs the distance of feature maps, each brought to the teacher's width by a 1x1x1 convolution, at
    half resolution and below, where both networks have a block of the same name. ``mirror`` teaches with the mean over
    the package's own flips, at as many of its passes per step.
    """

    package: Text
    start: Literal["teacher", "recipe"] = "teacher"
    share: Fraction = 0.5
    temperature: Annotated[Finite, Field(ge=1, le=20)] = 2.0
    features: NotNegative = 0.0
    mirror: bool = False

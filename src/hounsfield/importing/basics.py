"""The part of a template that every format shares, and the manifest that follows from answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.importing.answers import ASKED, Answers

_CODE = {"value": ASKED, "scheme": ASKED, "meaning": ASKED}

QUESTIONS = {
    "package": "Name, version and title of the package are yours to choose.",
    "licence": "Licences of the weights and of the data they were trained on (SPDX id or plain text).",
    "input.orientation": "Orientation of the training images' arrays, from last to first axis, such as LPS or RAS.",
    "input.channels": "Modality (CT, MR, ...) and meaning (HU, SUV, arbitrary) of each image channel.",
    "domain.modality": "DICOM modalities that the model may be run on, and what happens otherwise.",
    "output.classes": "Label and coded concept of each class, in the order of the network's answers.",
    "output.activation": "sigmoid where classes do not exclude each other, softmax where exactly one is true.",
    "output.segments": "Coded concepts of each segment, for example SNOMED CT: scheme 'SCT'.",
}


def basic_template(
    channels: Sequence[str],
    segments: Sequence[str],
    *,
    input_table: Mapping[str, Any] | None = None,
    orientation: str = ASKED,
) -> dict[str, Any]:
    """The template of a segmentation model.

    Parameters
    ----------
    channels
        Names of the image channels (``"?"`` where unknown).
    segments
        Labels of the segments in the order of their numbers (``"?"`` where unknown).
    input_table
        Further ``[input]`` keys, known or ``"?"``.
    orientation
        If the source states it.
    """
    return {
        "package": {"id": ASKED, "version": "1.0.0", "title": ASKED, "intended_use": ASKED},
        "licence": {"weights": ASKED, "data": ASKED},
        "input": {
            "orientation": orientation,
            "channels": [{"name": name, "modality": ASKED, "quantity": ASKED} for name in channels],
            **(input_table or {}),
        },
        "domain": {"modality": {"allowed": [ASKED], "breach": "refuse"}},
        "output": {"segments": [{"label": label, "category": dict(_CODE), "type": dict(_CODE)} for label in segments]},
    }


def class_template(
    channels: Sequence[str], classes: int, *, input_table: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The template of a model that answers ``classes`` logits for a whole image."""
    table = basic_template(channels, [], input_table=input_table)
    concept = {"label": ASKED, "concept": dict(_CODE)}
    table["output"] = {"activation": ASKED, "classes": [dict(concept) for _ in range(classes)]}
    return table


def manifest_from(
    answers: Answers,
    *,
    input_table: Mapping[str, Any],
    output_table: Mapping[str, Any] | None = None,
    graphs: Sequence[Mapping[str, Any]] = (),
    architecture: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest's table: what the answers say, and over it what the format knows.

    ``input_table`` and ``output_table`` come from the conversion; channels, orientation, segments,
    domain and licence from the answers. Segment numbers count from 1 in the order of the answers.
    """
    package = answers.at("package")
    classes = answers.get("output.classes")
    return {
        "id": package["id"],
        "version": package["version"],
        "title": package["title"],
        "task": "segmentation" if classes is None else "classification",
        "intended_use": package["intended_use"],
        "licence": answers.at("licence"),
        "input": {
            "channels": answers.at("input.channels"),
            "orientation": answers.at("input.orientation"),
            **input_table,
        },
        "domain": answers.at("domain"),
        "output": {**_answered(answers), **(output_table or {})},
        "graphs": list(graphs)
        or [{"precision": "fp32", "file": "graphs/fp32.onnx", "input": "image", "output": "logits"}],
        **({} if architecture is None else {"architecture": dict(architecture)}),
    }


def _answered(answers: Answers) -> dict[str, Any]:
    """The segments or classes of the answers, as ``[output]`` wants them."""
    classes, clean_up = answers.get("output.classes"), answers.get("output.clean_up")
    if classes is not None:
        return {"classes": classes, "activation": answers.at("output.activation")}
    segments = [{**segment, "number": number} for number, segment in enumerate(answers.at("output.segments"), start=1)]
    return {"segments": segments, **({"clean_up": clean_up} if clean_up else {})}

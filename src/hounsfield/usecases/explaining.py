"""Why a class got its score: the class-activation map of each reported class on the scan's grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.errors import EngineUnavailable, PackageInvalid, SettingsError
from hounsfield.findings import CodedConcept
from hounsfield.findings.maps import ParameterMap
from hounsfield.inference.activating import probabilities
from hounsfield.packages import ModelPackage
from hounsfield.preparing import prepare, restore_scores
from hounsfield.preparing.cutting import put_back, window_at

if TYPE_CHECKING:
    from hounsfield.usecases.stages import Labelled, Loaded

#: How far the reference weights' score may be from the one that was reported.
SAME_SCORE = 0.02
_UNIT = CodedConcept("1", "UCUM", "no units")


def demand_explainable(package: ModelPackage) -> None:
    """Raise unless the package answers classes of a whole image and brings what an explanation needs.

    Raises
    ------
    SettingsError
        If it answers something else, or reads the surroundings of points.
    PackageInvalid
        If it has no reference weights, or its network no layer that is looked at.
    EngineUnavailable
        If torch is not installed.
    """
    demand_explanation(package)
    _network(package)


def demand_explanation(package: ModelPackage) -> None:
    """Raise unless the package may be explained by what its manifest says; nothing is loaded.

    Raises
    ------
    SettingsError
        If it answers something else than classes of a whole image, or reads the surroundings of points.
    PackageInvalid
        If it has no reference weights.
    """
    given = package.manifest.input
    if not package.manifest.output.classes or given.point is not None or given.record or given.times is not None:
        raise SettingsError(
            f"{package.reference} does not answer classes of a whole image, which alone are explained",
            "leave --explain out",
        )
    _weights(package)


def explain(
    loaded: Loaded, package: ModelPackage, answer: Labelled
) -> tuple[tuple[ParameterMap, ...], tuple[str, ...]]:
    """A map per reported class, 0 to 1 of its own largest value; and a warning where the scores differ.

    The reference weights compute it in fp32; engine and precision of the answer may be others.
    """
    from hounsfield.explaining import activation_map

    network, layer = _network(package)
    manifest = package.manifest
    window = manifest.input.window
    prepared = prepare(loaded.whole, manifest.input, lazy=True)
    image = np.ascontiguousarray(window_at(prepared, window.shape, None, window.pad_value))
    maps, warnings = [], []
    for number, spec in enumerate(manifest.output.classes):
        if not spec.reported:
            continue
        found, logits = activation_map(network, layer, image, number)
        score = float(probabilities(logits[None], manifest.output)[0, number])
        if abs(score - answer.scores[number].probability) > SAME_SCORE:
            warnings.append(
                f"the explanation of {spec.label} is of a score of {score:.3f}: the reference weights answer "
                f"otherwise than {answer.engine} in {answer.precision}"
            )
        if not found.any():
            warnings.append(f"nothing in the image speaks for {spec.label}: its explanation is empty")
        concept = CodedConcept(spec.concept.value, spec.concept.scheme, spec.concept.meaning)
        placed = put_back(found / max(float(found.max()), 1e-30), prepared.shape)
        maps.append(ParameterMap(spec.label, concept, _UNIT, restore_scores(placed[None], prepared)[0]))
    return tuple(maps), tuple(warnings)


def _weights(package: ModelPackage) -> tuple[Any, Path]:
    """What the network is, and the file of its reference weights."""
    description, weights = package.manifest.architecture, package.weights_path
    if description is None or weights is None:
        raise PackageInvalid(
            f"{package.reference} has no reference weights, which an explanation needs", "leave --explain out"
        )
    return description, weights


def _network(package: ModelPackage) -> tuple[Any, str]:
    """The reference network, and the layer that is looked at."""
    description, weights = _weights(package)
    try:
        from safetensors.torch import load_file

        from hounsfield.architectures import architecture, build, load_weights
    except ImportError as error:
        raise EngineUnavailable(
            f"an explanation needs torch, which does not import ({error})",
            "install it: pip install 'hounsfield[train]'",
        ) from error
    layer = architecture(str(description["name"])).looked_at
    if layer is None:
        raise PackageInvalid(
            f"the network {description['name']!r} has no layer that an explanation looks at", "leave --explain out"
        )
    network = build(description)
    load_weights(network, load_file(str(weights)))
    return network.eval(), layer

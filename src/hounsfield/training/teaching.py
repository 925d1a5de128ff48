"""A teacher beside the training loop: its answers and feature maps for a batch, and how far the student is from them.

Soft targets: Kullback-Leibler distance of the softened answers times the square of the temperature (Hinton 2015),
plus one minus the soft Dice to the teacher's probabilities, so that few voxels of a lesion count beside many of the
background. Features: mean squared distance after a 1x1x1 convolution to the teacher's width (Romero 2015), over the
mean square of the teacher's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hounsfield.architectures import build, load_weights
from hounsfield.errors import PackageInvalid, SettingsError
from hounsfield.packages import ModelPackage
from hounsfield.training.recipe import Recipe
from hounsfield.training.teacher import Teacher

_SMOOTH: Final = 1.0
_LEAST_SHRINK: Final = 8
_POINTWISE: Final = {4: nn.Conv2d, 5: nn.Conv3d}


def teacher_network(package: ModelPackage, table: Teacher) -> nn.Module:
    """The package's network with its weights, in evaluation mode, never to be trained."""
    from safetensors.torch import load_file

    network = build(teacher_description(package, table))
    load_weights(network, load_file(str(package.weights_path)))
    return network.eval().requires_grad_(False)


def teacher_description(package: ModelPackage, table: Teacher) -> dict[str, Any]:
    """The ``[architecture]`` that teaches; without its flips unless they are wanted."""
    found = dict(package.manifest.architecture or {})
    return found if table.mirror else {key: value for key, value in found.items() if key != "mirror"}


def demand_teacher(package: ModelPackage, recipe: Recipe, description: Mapping[str, Any]) -> None:
    """Refuse a teacher that cannot teach this recipe.

    Raises
    ------
    PackageInvalid
        If it has no weights.
    SettingsError
        If it reads or answers something else than the student.
    """
    manifest = package.manifest
    if manifest.architecture is None or package.weights_path is None:
        raise PackageInvalid(
            f"{package.reference} has no weights to teach from", "choose a package with weights", package.root
        )
    own, other = dict(recipe.input), dict(manifest.input)
    differs = [key for key in ("channels", "orientation", "spacing_mm", "intensity") if own[key] != other[key]]
    if manifest.task != recipe.task:
        differs.append("task")
    if manifest.architecture.get("channels_out") != description["channels_out"]:
        differs.append("labels")
    if differs:
        raise SettingsError(
            fact=f"teacher and student differ in: {', '.join(differs)}",
            remedy=f"make them the same as in {package.reference}, so that both look at the same patch",
        )


class Lesson:
    """What a student is taught in each step.

    Parameters
    ----------
    teacher
        In evaluation mode.
    student
        The network that is trained; its blocks are listened to.
    table
        How much each part counts.
    image
        Example (1, channels, [k,] j, i) of the size of a patch, on the device of both.
    blocks
        Class names of the modules whose maps may be compared.
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, table: Teacher, image: Tensor, blocks: tuple[str, ...]
    ) -> None:
        self._teacher, self._table = teacher, table
        self._of_teacher: dict[str, Tensor] = {}
        self._of_student: dict[str, Tensor] = {}
        self.adapters = nn.ModuleDict()
        if table.features:
            self._listen(student, blocks, image)

    def loss(self, of_labels: Tensor, inputs: tuple[Tensor, ...], logits: Tensor, autocast: torch.autocast) -> Tensor:
        """The whole loss: labels, the teacher's softened answer, its feature maps.

        Parameters
        ----------
        of_labels
            The loss on the labels.
        inputs
            Of this batch.
        logits
            The student's, (batch, classes, ...) or (batch, heads, classes, ...): the first head is taught.
        autocast
            The arithmetic of forward passes.
        """
        self._of_teacher.clear()
        with torch.no_grad(), autocast:
            answer = self._teacher(*inputs).float()
        own = logits[:, 0] if logits.dim() > answer.dim() else logits
        share = self._table.share
        total = (1 - share) * of_labels + share * soft_loss(own.float(), answer, self._table.temperature)
        if len(self.adapters):
            total = total + self._table.features * self._feature_loss()
        return total

    def _listen(self, student: nn.Module, blocks: tuple[str, ...], image: Tensor) -> None:
        """Pair blocks of one name and size of map; make the convolutions between their widths."""
        for network, into in ((self._teacher, self._of_teacher), (student, self._of_student)):
            for name, module in _outermost(network, blocks):
                module.register_forward_hook(_keep(into, name))
        was = student.training
        with torch.no_grad():
            student.eval()(image)
            self._teacher(image)
        student.train(was)
        for name, own in self._of_student.items():
            other = self._of_teacher.get(name)
            small = own[0, 0].numel() * _LEAST_SHRINK <= image[0, 0].numel()
            if other is not None and small and own.shape[2:] == other.shape[2:]:
                adapter = _POINTWISE[own.dim()](own.shape[1], other.shape[1], 1)
                self.adapters[name.replace(".", "/")] = adapter.to(image.device)
        self._of_student.clear()

    def _feature_loss(self) -> Tensor:
        parts = []
        for key, adapter in self.adapters.items():
            name = key.replace("/", ".")
            wanted = self._of_teacher[name].float()
            found = adapter(self._of_student[name].float())
            parts.append(F.mse_loss(found, wanted) / wanted.square().mean().clamp(min=1e-6))
        self._of_student.clear()
        return torch.stack(parts).mean()


def _outermost(network: nn.Module, blocks: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    """Blocks of these classes that lie in no other of them; a module that is there twice, once."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        if type(module).__name__ in blocks and not any(name.startswith(f"{outer}.") for outer, _ in found):
            found.append((name, module))
    return found


def _keep(into: dict[str, Tensor], name: str) -> Any:
    """A hook that keeps the first answer since the last step: of several flips, the one that is none."""

    def hook(module: nn.Module, given: Any, answer: Tensor) -> None:
        into.setdefault(name, answer)

    return hook


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The distance to the teacher's answer; the mean over items, as losses on labels are.

    Parameters
    ----------
    logits, teacher
        (batch, classes, ...), float32, for a softmax over classes.
    temperature
        Both are divided by it first; 1 or more.
    """
    wanted = (teacher / temperature).log_softmax(1)
    found = (logits / temperature).log_softmax(1)
    distance = (wanted.exp() * (wanted - found)).sum(1).mean() * temperature**2
    own, other = logits.softmax(1)[:, 1:].flatten(2), teacher.softmax(1)[:, 1:].flatten(2)
    overlap = (own * other).sum(2)
    total = (own.square() + other.square()).sum(2)
    return distance + 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()

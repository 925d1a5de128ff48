"""Which channels of a network belong together: found by following them through one pass without values.

Every convolution makes a group of channels; norms scale it, later convolutions read it. What is added voxel by
voxel is one group, what is joined end to end stays two. A group can lose a channel only everywhere at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from hounsfield.architectures.registry import build
from hounsfield.errors import PackageInvalid

Role = Literal["makes", "scales", "reads", "follows"]
Groups = tuple[int, ...]

_CONVOLUTIONS: Final = ("conv1d", "conv2d", "conv3d")
_UPWARD: Final = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_JOINING: Final = (
    "add",
    "add_",
    "__add__",
    "__radd__",
    "__iadd__",
    "sub",
    "mul",
    "mul_",
    "__mul__",
    "__rmul__",
    "__imul__",
)
_KEEPING: Final = (
    *("leaky_relu", "leaky_relu_", "relu", "relu_", "elu", "gelu", "silu", "prelu", "softplus", "hardtanh", "sigmoid"),
    *("tanh", "interpolate", "upsample", "dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d", "boolean_dispatch", "pad", "flip", "contiguous", "to"),
    *("clone", "float", "type", "div", "truediv", "__truediv__", "neg", "__neg__"),
)  # fmt: skip


@dataclass(frozen=True)
class ChannelUse:
    """One axis of one tensor, and the groups of channels that lie along it, end to end.

    Parameters
    ----------
    tensor
        Name of the parameter or buffer.
    axis
        0 or 1.
    role
        Whether it makes the channels (a convolution's kernel and bias), scales them (a norm's weight and
        bias), reads them (the kernel of a later convolution), or only follows (running statistics).
    """

    tensor: str
    axis: int
    role: Role
    groups: Groups


@dataclass(frozen=True)
class ChannelMap:
    """The groups of a network.

    Parameters
    ----------
    sizes
        Channels of each group, by its number; numbered in the order of the pass, so that two widths of
        one architecture have the same numbers.
    uses
        Everything that must lose a channel with them.
    parameters
        Trainable numbers of the whole network.
    """

    sizes: Mapping[int, int]
    uses: tuple[ChannelUse, ...]
    parameters: int


def follow_channels(description: Mapping[str, Any], window: tuple[int, int, int]) -> ChannelMap:
    """The groups of the network of a manifest's ``[architecture]``.

    Parameters
    ----------
    window
        Spatial shape (k, j, i) that it takes.

    Raises
    ------
    PackageInvalid
        If the network has operations whose channels cannot be followed (attention between voxels, grouped
        convolutions and norms, layers on flattened maps).
    """
    with FakeTensorMode():
        network = build(description).train()
        image = torch.zeros(2, int(description["channels_in"]), *window)
        names = {id(tensor): name for name, tensor in (*network.named_parameters(), *network.named_buffers())}
        follower = _Follower(names)
        follower.mark(image, (follower.new(image.shape[1]),))
        with follower:
            network(image)
        return follower.found(sum(p.numel() for p in network.parameters()))


class _Follower(TorchFunctionMode):
    """Carries the groups of every tensor along, as the operations run."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self._sizes: list[int] = []
        self._same: list[int] = []
        self._uses: list[ChannelUse] = []

    def new(self, size: int) -> int:
        """A new group."""
        self._sizes.append(size)
        self._same.append(len(self._same))
        return len(self._sizes) - 1

    def mark(self, tensor: Tensor, groups: Groups) -> None:
        """Say which groups lie along axis 1 of a tensor."""
        tensor.hounsfield_groups = groups

    def found(self, parameters: int) -> ChannelMap:
        """The map, groups that are one under one number; what a later pass used again is told once."""
        uses = [ChannelUse(u.tensor, u.axis, u.role, tuple(map(self._root, u.groups))) for u in self._uses]
        sizes = {n: size for n, size in enumerate(self._sizes) if self._root(n) == n}
        return ChannelMap(sizes, tuple(dict.fromkeys(uses)), parameters)

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        answer = function(*args, **given)
        name = str(getattr(function, "__name__", function))
        if isinstance(answer, Tensor) and name not in ("__get__", "detach"):
            self._follow(name, args, given, answer)
        return answer

    def _follow(self, name: str, args: Sequence[Any], given: Mapping[str, Any], answer: Tensor) -> None:
        if name in _CONVOLUTIONS or name in _UPWARD:
            self._convolution(name, args, given, answer)
        elif name in ("instance_norm", "batch_norm", "group_norm"):
            self._norm(name, args, given, answer)
        elif name in ("cat", "concat"):
            self._joined(args, given, answer)
        elif name in _JOINING:
            self._added([self._groups(one) for one in args[:2] if isinstance(one, Tensor)], answer)
        elif name in _KEEPING:
            self._kept(args, answer)

    def _convolution(self, name: str, args: Sequence[Any], given: Mapping[str, Any], answer: Tensor) -> None:
        kernel, bias = args[1], args[2] if len(args) > 2 else given.get("bias")
        if (args[6] if len(args) > 6 else given.get("groups", 1)) != 1:
            raise _unfollowed("a convolution in groups")
        made = (self.new(answer.shape[1]),)
        into, out = (0, 1) if name in _UPWARD else (1, 0)
        self._use(kernel, into, "reads", self._known(args[0], name))
        self._use(kernel, out, "makes", made)
        if bias is not None:
            self._use(bias, 0, "makes", made)
        self.mark(answer, made)

    def _norm(self, name: str, args: Sequence[Any], given: Mapping[str, Any], answer: Tensor) -> None:
        groups = self._known(args[0], name)
        if name == "group_norm" and args[1] != 1:
            raise _unfollowed("a norm over groups of channels")
        tensors = [*args[1:], *given.values()]
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._use(tensor, 0, "scales" if tensor.requires_grad else "follows", groups)
        self.mark(answer, groups)

    def _joined(self, args: Sequence[Any], given: Mapping[str, Any], answer: Tensor) -> None:
        dim = args[1] if len(args) > 1 else given.get("dim", 0)
        if dim == 1:
            self.mark(answer, tuple(group for tensor in args[0] for group in self._known(tensor, "cat")))

    def _added(self, sides: Sequence[Groups | None], answer: Tensor) -> None:
        """Two sides of one width become one; a side of one channel (a gate) leaves the other as it is."""
        known = [side for side in sides if side is not None]
        if not known:
            return
        widths = [sum(self._sizes[group] for group in side) for side in known]
        if len(known) == 2 and widths[0] == widths[1] != 1:
            if len(known[0]) != len(known[1]):
                raise _unfollowed("a sum of maps that are joined differently")
            for one, other in zip(*known, strict=True):
                self._unite(one, other)
        self.mark(answer, known[widths.index(max(widths))])

    def _kept(self, args: Sequence[Any], answer: Tensor) -> None:
        groups = self._groups(args[0]) if args and isinstance(args[0], Tensor) else None
        if groups is None:
            return
        for tensor in args[1:]:
            if isinstance(tensor, Tensor) and id(tensor) in self._names and tensor.numel() > 1:
                self._use(tensor, 0, "scales", groups)
        self.mark(answer, groups)

    def _use(self, tensor: Tensor, axis: int, role: Role, groups: Groups) -> None:
        name = self._names.get(id(tensor))
        if name is not None:
            self._uses.append(ChannelUse(name, axis, role, groups))

    def _groups(self, tensor: Tensor) -> Groups | None:
        found: Groups | None = getattr(tensor, "hounsfield_groups", None)
        return found

    def _known(self, tensor: Tensor, reader: str) -> Groups:
        groups = self._groups(tensor)
        if groups is None:
            raise _unfollowed(f"what comes before {reader}")
        return groups

    def _root(self, group: int) -> int:
        while self._same[group] != group:
            group = self._same[group]
        return group

    def _unite(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._same[second] = first


def _unfollowed(what: str) -> PackageInvalid:
    return PackageInvalid(
        fact=f"the channels of this network cannot be followed through {what}",
        remedy="teach a student of another architecture, with teacher.start = 'recipe'",
    )

"""PyTorch: for packages with weights, on the CPU or on CUDA, where blending stays on the device."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, EngineUnavailable
from hounsfield.inference.blended import Sums
from hounsfield.inference.deciding import Decider
from hounsfield.inference.engine import Floats, LoadSettings, Network, Precision, Session, TorchNetwork, checked
from hounsfield.inference.head import Head
from hounsfield.inference.host import HostArrays, Matrices
from hounsfield.plugins import Availability

_INSTALL = "pip install 'hounsfield[train]'"
_SMALLEST = 1e-30
_COVERED = 0.5
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def _told(work: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
    """Say what PyTorch raises as an :class:`EngineError`; work on a GPU may fail at any call, even a later one."""

    @functools.wraps(work)
    def telling(*args: _Given.args, **more: _Given.kwargs) -> _Made:
        try:
            return work(*args, **more)
        except RuntimeError as error:
            raise EngineError(
                fact=f"PyTorch failed: {str(error).splitlines()[0][:300]}",
                remedy="check the window shape, or plan with less memory; if a GPU failed, choose the device cpu",
            ) from error

    return telling


class TorchEngine:
    """See :class:`hounsfield.inference.engine.Engine`."""

    name = "torch"

    def availability(self) -> Availability:
        """Available where the extra ``train`` is installed."""
        try:
            import torch  # noqa: F401
        except ImportError as error:
            return Availability(False, f"PyTorch does not import ({error})", _INSTALL)
        return Availability(True)

    @_told
    def load(self, network: Network, settings: LoadSettings) -> Session:
        """Build the network on the device, channels last, and run it once to see its arithmetic.

        fp32 is plain (TensorFloat-32 is switched off), bf16 and fp16 are autocast. The number of
        threads is PyTorch's own and holds for the whole process.

        Raises
        ------
        EngineUnavailable
            If PyTorch or the device is absent, or it has no such arithmetic.
        EngineError
            If the network cannot be run on this window.
        """
        try:
            import torch
        except ImportError as error:
            raise EngineUnavailable(f"PyTorch does not import ({error})", f"install it: {_INSTALL}") from error
        if not isinstance(network, TorchNetwork):
            raise EngineUnavailable("PyTorch runs networks with weights, not ONNX graphs", "choose openvino")
        cuda = settings.device.startswith("cuda")
        if cuda and not torch.cuda.is_available():
            raise EngineUnavailable(f"PyTorch sees no device {settings.device}", "choose the device cpu")
        if settings.precision == "int8" or (settings.precision == "fp16" and not cuda):
            raise EngineUnavailable(
                f"PyTorch here has no {settings.precision} on {settings.device}", "choose fp32 or bf16"
            )
        if settings.threads and not cuda:
            torch.set_num_threads(settings.threads)
        return TorchSession(torch, network.build(), settings)


class TorchSession:
    """See :class:`hounsfield.inference.engine.Session`.

    On CUDA ``arrays`` keeps the sums on the device: answers never travel, labels do.
    """

    def __init__(self, torch: Any, module: Any, settings: LoadSettings) -> None:
        self._torch, self._settings = torch, settings
        self._device = torch.device(settings.device)
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        self._kind = kinds.get(settings.precision)
        self._module = module.eval().to(self._device, memory_format=torch.channels_last_3d)
        on_device = self._device.type == "cuda"
        self.arrays: Any = TorchArrays(torch, self._device) if on_device else HostArrays()
        self.precision: Precision = self._really_runs()

    def _really_runs(self) -> Precision:
        """Run an empty window and look at what the convolutions answer in."""
        torch, seen = self._torch, Counter[str]()

        def look(module: Any, given: Any, answer: Any) -> None:
            if isinstance(answer, torch.Tensor):
                seen[str(answer.dtype)] += 1

        convolutions = (torch.nn.Conv3d, torch.nn.ConvTranspose3d, torch.nn.Linear)
        hooks = [m.register_forward_hook(look) for m in self._module.modules() if isinstance(m, convolutions)]
        try:
            self._run(np.zeros(self._settings.input_shape, np.float32))
        finally:
            for hook in hooks:
                hook.remove()
        if "torch.bfloat16" in seen:
            return "bf16"
        return "fp16" if "torch.float16" in seen else "fp32"

    @_told
    def _run(self, batch: Floats) -> Any:
        """The answer as a float32 tensor on the device."""
        torch = self._torch
        given = torch.from_numpy(np.ascontiguousarray(batch))
        if self._device.type == "cuda":
            given = given.pin_memory().to(self._device, non_blocking=True)
        given = given.contiguous(memory_format=torch.channels_last_3d)
        casting = torch.autocast(self._device.type, dtype=self._kind, enabled=self._kind is not None)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.inference_mode(), exact, casting:
            answer = self._module(given)
        return answer.float().contiguous()

    @_told
    def infer(self, batch: Floats) -> Floats:
        """One batch, back on the host."""
        checked("PyTorch", batch, self._settings)
        answer: Floats = self._run(batch).cpu().numpy()
        return answer

    def stream(self, batches: Iterable[Floats]) -> Iterator[Any]:
        """Answers in order: arrays on the CPU, tensors on CUDA, where work is queued ahead."""
        if self._device.type != "cuda":
            yield from map(self.infer, batches)
            return
        ahead: list[Any] = []
        for batch in batches:
            checked("PyTorch", batch, self._settings)
            ahead.append(self._run(batch))
            if len(ahead) >= max(1, self._settings.requests):
                yield ahead.pop(0)
        yield from ahead

    def facts(self) -> dict[str, str | int]:
        """What a result says of how it was made."""
        return {
            "engine": "torch",
            "version": str(self._torch.__version__),
            "device": self._settings.device,
            "precision": self.precision,
            "threads": int(self._torch.get_num_threads()),
        }

    def close(self) -> None:
        """Free the network and the device's cached memory."""
        self._module = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()


class TorchArrays:
    """See :class:`hounsfield.inference.host.Arrays`; tensors on one device."""

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch, self._device = torch, device
        self._weight: tuple[Any, Any] = (None, None)
        self._head: tuple[Any, Any] = (None, None)

    @_told
    def zeros(self, shape: tuple[int, ...], half: bool) -> Any:
        """A tensor of zeros on the device."""
        kind = self._torch.float16 if half else self._torch.float32
        return self._torch.zeros(shape, dtype=kind, device=self._device)

    def turned(self, array: Any, order: tuple[int, int, int]) -> Any:
        """A view."""
        return array.permute(0, *(1 + axis for axis in order))

    @_told
    def weigh(self, target: Any, values: Any, weight: NDArray[np.float32]) -> None:
        """One product on the device."""
        self._torch.mul(values, self._on_device(weight), out=target)

    @_told
    def lay(self, target: Any, weight: NDArray[np.float32]) -> None:
        """A copy on the device."""
        target[0] = self._on_device(weight)

    def _on_device(self, weight: NDArray[np.float32]) -> Any:
        """The part of the window's weights, cut from one copy on the device."""
        whole: Any = weight
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        if self._weight[0] is not whole:
            self._weight = (whole, self._torch.from_numpy(whole).to(self._device))
        offset = (weight.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // 4
        strides = [step // 4 for step in weight.strides]
        return self._weight[1].as_strided(weight.shape, strides, offset)

    @_told
    def add(self, sums: Sums, kept: Any) -> None:
        """Sums as they are, or of float16 means."""
        channels = len(sums.values)
        if kept.dtype == self._torch.float16:
            sums.values.addcmul_(kept[:channels].float(), kept[channels:].float())
        else:
            sums.values.add_(kept[:channels])
        if sums.weights is not None:
            sums.weights.add_(kept[channels:])

    @_told
    def keep(self, kept: Any, sums: Sums) -> None:
        """Copies, or float16 means."""
        channels = len(sums.values)
        if kept.dtype == self._torch.float16 and sums.weights is not None:
            kept[:channels] = sums.values / sums.weights.clamp_min(_SMALLEST)
        else:
            kept[:channels] = sums.values
        if sums.weights is not None:
            kept[channels:] = sums.weights

    @_told
    def softened(self, sums: Sums, activation: str) -> Sums:
        """On the device."""
        means = sums.values if sums.weights is None else sums.values / sums.weights.clamp_min(_SMALLEST)
        values = means.sigmoid() if activation == "sigmoid" else means.softmax(dim=0)
        weights = None if sums.weights is None else (sums.weights > 0).to(values.dtype)
        return Sums(values if weights is None else values * weights, weights)

    @_told
    def labels(self, sums: Sums, matrices: Matrices, decider: Decider, dtype: Any) -> NDArray[Any]:
        """Interpolated, multiplied by the head and decided on the device."""
        if any(matrix is not None for matrix in matrices):
            sums = self._interpolated(sums, matrices)
        scores, weights = sums
        if not bool(self._torch.isfinite(scores).all()):
            raise EngineError("the network's answers are not finite or do not fit float16", "use float32 accumulators")
        if weights is None:
            weights = self._torch.ones_like(scores[:1])
        if decider.head is not None:
            if self._head[0] is not decider.head:
                self._head = (decider.head, self._torch.from_numpy(decider.head).to(self._device))
            head = self._head[1]
            scores = self._torch.einsum("cf,fkji->ckji", head[:, :-1], scores) + head[:, -1, None, None, None] * weights
        if decider.rule.rule == "last":
            above = scores > decider.rule.threshold * weights[0]
            numbers = self._torch.arange(1, len(scores) + 1, device=scores.device)[:, None, None, None]
            labels = (above * numbers).amax(dim=0)
        else:
            best, labels = scores.max(dim=0)
        if decider.rule.rule == "above":
            labels = (labels + 1) * (best > decider.rule.threshold * weights[0])
        labels = labels * (weights[0] > 0)
        result: NDArray[Any] = labels.to(self._torch.int32).cpu().numpy().astype(dtype)
        return result

    def _interpolated(self, sums: Sums, matrices: Matrices) -> Sums:
        def through(values: Any) -> Any:
            for axis, matrix in enumerate(matrices):
                if matrix is not None:
                    line = self._torch.from_numpy(matrix.astype(np.float32)).to(self._device)
                    values = self._torch.tensordot(values, line, dims=([axis + 1], [1])).movedim(-1, axis + 1)
            return values

        if sums.weights is None:
            return Sums(through(sums.values), None)
        means = through(sums.values / sums.weights.clamp_min(_SMALLEST))
        covered = through((sums.weights > 0).float())
        return Sums(means, (covered >= _COVERED).float())


def split_torch_head(network: TorchNetwork, channels: int, window: Sequence[int]) -> tuple[TorchNetwork, Head] | None:
    """Cut a last 1x1x1 convolution off a module, if there is one; proven by running it.

    The module is run on noise: the convolution whose answer *is* the network's answer, in the same
    memory and unchanged since, is the head.
    """
    import torch

    module = network.build().eval()
    seen: list[tuple[Any, Any, Any]] = []  # holding the answers keeps their memory from being used again

    def look(layer: Any, given: Any, answer: Any) -> None:
        seen.append((layer, answer, answer.clone()))

    heads = [m for m in module.modules() if isinstance(m, torch.nn.Conv3d) and _is_plain(m)]
    hooks = [layer.register_forward_hook(look) for layer in heads]
    with torch.inference_mode():
        answer = module(torch.randn(1, channels, *window, generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    same = [layer for layer, its, copy in seen if its.data_ptr() == answer.data_ptr() and torch.equal(copy, answer)]
    if len(same) != 1:
        return None
    layer = same[0]
    weight = layer.weight.detach().float().numpy()[:, :, 0, 0, 0].copy()
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().float().numpy().copy()
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is layer:
                setattr(parent, name, torch.nn.Identity())
    return TorchNetwork(lambda: module), Head(weight, bias)


def _is_plain(layer: Any) -> bool:
    return bool(
        tuple(layer.kernel_size) == (1, 1, 1)
        and tuple(layer.stride) == (1, 1, 1)
        and layer.groups == 1
        and layer.padding in ((0, 0, 0), "valid", "same")
    )

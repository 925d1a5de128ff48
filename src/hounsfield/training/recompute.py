"""Compute the activations of blocks twice instead of keeping them (Chen 2016).

Only the input of a block is kept for the way back; its inside is computed again there. Running
statistics of batch norms are not counted twice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hounsfield.architectures import architecture


def recompute_blocks(network: nn.Module, name: str, keep_random_state: bool = True) -> int:
    """Change the network in place; answers how many blocks are computed twice.

    Parameters
    ----------
    network
        Of the architecture ``name``.
    keep_random_state
        Replay dropout exactly on the second pass; only a replay without values can do without.
    """
    wanted = architecture(name).blocks
    changed: list[str] = []
    for path, module in network.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in changed)
        if type(module).__name__ in wanted and not inside:
            module.forward = functools.partial(_twice, module, module.forward, keep_random_state)
            changed.append(path)
    return len(changed)


def _twice(module: nn.Module, forward: Callable[..., Tensor], keep_random_state: bool, *inputs: Any) -> Any:
    if not module.training:
        return forward(*inputs)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=keep_random_state,
        context_fn=lambda: (contextlib.nullcontext(), _uncounted(module)),
    )


@contextlib.contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """Batch norms inside leave their running statistics alone."""
    norms = [inner for inner in module.modules() if isinstance(inner, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

"""Cut a network into stages: each reads kept activations slab by slab and makes one new one.

What is kept: the output of every stencil, the input of every instance normalisation (its mean
and variance need the whole volume first), the network's output, and sums that would otherwise
be put together from many kept activations again and again. Normalisation, activation functions,
additions and concatenations are done anew whenever their result is read: they cost less than
keeping it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hounsfield.inference.whole.network import NORMALISATION, STENCILS, Network, Operator, TensorShape


@dataclass(frozen=True, eq=False)
class Stage:
    """One kept activation and how it is made.

    Parameters
    ----------
    target
        The activation that is made.
    sources
        Kept activations (or the input) that are read.
    operators
        Voxel-by-voxel operators in order, each source normalised on the way where needed.
    stencil
        The last operator, or None where the target is made voxel by voxel.
    last_use
        Sources that no later stage reads: their space is given back.
    normalised
        Whether a later stage needs the target's mean and variance.
    """

    target: str
    sources: tuple[str, ...]
    operators: tuple[Operator, ...]
    stencil: Operator | None
    last_use: tuple[str, ...]
    normalised: bool


def cut(network: Network, shapes: Mapping[str, TensorShape]) -> tuple[Stage, ...]:
    """The stages of a network in the order of execution."""
    makers = {op.output: op for op in network.operators}
    kept = _kept(network, makers, shapes)
    normalised = {op.activations[0] for op in network.operators if op.kind == NORMALISATION}
    drafts: list[tuple[str, tuple[str, ...], tuple[Operator, ...], Operator | None]] = []
    for op in network.operators:
        if op.output not in kept:
            continue
        stencil = op if op.kind in STENCILS else None
        roots = op.activations if stencil is not None else (op.output,)
        between = _between(roots, makers, kept, own=op.output)
        drafts.append((op.output, _sources(roots, between, kept | {network.input}, op.output), between, stencil))
    needed = _needed(drafts, network.output)
    drafts = [draft for draft in drafts if draft[0] in needed]
    final = {source: index for index, draft in enumerate(drafts) for source in draft[1]}
    return tuple(
        Stage(target, sources, operators, stencil, tuple(s for s in sources if final[s] == index), target in normalised)
        for index, (target, sources, operators, stencil) in enumerate(drafts)
    )


def _needed(
    drafts: Sequence[tuple[str, tuple[str, ...], tuple[Operator, ...], Operator | None]], output: str
) -> set[str]:
    needed = {output}
    for target, sources, _, _ in reversed(drafts):
        if target in needed:
            needed.update(sources)
    return needed


def _kept(network: Network, makers: Mapping[str, Operator], shapes: Mapping[str, TensorShape]) -> set[str]:
    kept = {op.output for op in network.operators if op.kind in STENCILS} | {network.output}
    kept |= {op.activations[0] for op in network.operators if op.kind == NORMALISATION} & makers.keys()
    readers = Counter(name for op in network.operators for name in op.activations)
    for op in network.operators:
        if op.output in kept or op.kind not in ("Add", "Sub", "Mul", "Div"):
            continue
        leaves = _sources((op.output,), _between((op.output,), makers, kept), kept | {network.input}, None)
        own, read = _size(op.output, shapes), sum(_size(leaf, shapes) for leaf in leaves)
        times = readers[op.output]
        if read * times > own * (1 + times) + read:
            kept.add(op.output)
    return kept


def _size(name: str, shapes: Mapping[str, TensorShape]) -> int:
    return math.prod(shapes[name])


def _between(
    roots: Sequence[str], makers: Mapping[str, Operator], kept: set[str], own: str | None = None
) -> tuple[Operator, ...]:
    """The operators from kept activations to ``roots``, in order; ``own`` is made even if kept."""
    found: dict[str, Operator] = {}

    def visit(name: str) -> None:
        if name in found or name not in makers or (name in kept and name != own):
            return
        for source in makers[name].activations:
            visit(source)
        found[name] = makers[name]

    for root in roots:
        visit(root)
    return tuple(found.values())


def _sources(roots: Sequence[str], between: Sequence[Operator], kept: set[str], own: str | None) -> tuple[str, ...]:
    made = {op.output for op in between}
    read = [name for op in between for name in op.activations] + [root for root in roots if root != own]
    return tuple(dict.fromkeys(name for name in read if name in kept and name not in made))

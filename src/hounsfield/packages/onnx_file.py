"""Check an ONNX graph of a package: structure, operators, sizes, numbers, and the manifest's word.

The ``onnx`` package parses the bytes; it is never given a path, so it never opens external data.
Memory is bounded beforehand by :mod:`hounsfield.packages.onnx_wire`. No graph is run.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hounsfield.errors import PackageError, PackageInvalid, PackageRefused
from hounsfield.packages.inventory import opened, shown
from hounsfield.packages.manifest import GraphSpec, Manifest
from hounsfield.packages.onnx_operators import (
    DOMAINS,
    MOST_ATTRIBUTE,
    OLDEST_OPSET,
    OPERATORS,
    SIZED_BY_ATTRIBUTE,
)
from hounsfield.packages.onnx_tensors import TensorChecker
from hounsfield.packages.onnx_wire import scan_wire

MOST_NODES = 50_000
_EXPORT = "export the graph again"


def check_graph(root: Path, spec: GraphSpec, manifest: Manifest, listed: Iterable[str]) -> frozenset[str]:
    """Check one graph; return the external data files that it uses.

    Parameters
    ----------
    root
        The package folder.
    spec, manifest
        The ``[[graphs]]`` entry and the whole manifest.
    listed
        The files of the package, as relative paths.

    Raises
    ------
    PackageInvalid
        If it is not a well-formed graph, or not the one that the manifest describes.
    PackageRefused
        If it holds what a graph may never hold.
    """
    path = root / spec.file
    try:
        model = _parsed(root, spec.file)
        external = _check_content(model, root, spec.file, listed)
        _check_ends(model.graph, spec, manifest)
        return external
    except PackageError as error:
        raise type(error)(error.fact, error.remedy, error.path or path) from error.__cause__


def read_graph(root: Path, name: str, data_inside: Callable[[Any], None] | None = None) -> Any:
    """A graph file by itself as an ``onnx.ModelProto``, after every check but those against a manifest.

    Parameters
    ----------
    data_inside
        Called with the parsed model before its tensors are checked: it brings data of other files inside.

    Raises
    ------
    PackageInvalid, PackageRefused
        As :func:`check_graph`; data that are still in another file are refused.
    """
    try:
        model = _parsed(root, name)
        if data_inside is not None:
            data_inside(model)
        _check_content(model, root, name, ())
        return model
    except PackageError as error:
        raise type(error)(error.fact, error.remedy, error.path or root / name) from error.__cause__


def _check_content(model: Any, root: Path, name: str, listed: Iterable[str]) -> frozenset[str]:
    """Check operators, names and tensors; return the external data files that are used."""
    _check_model(model)
    tensors = TensorChecker(root, name, frozenset(listed))
    _check_nodes(model, tensors)
    return tensors.external


def _parsed(root: Path, name: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    with opened(root, name) as file:
        if file.seek(0, 2) == 0:
            raise PackageInvalid(fact="it is empty", remedy=_EXPORT)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            scan_wire(data)
            try:
                return onnx.ModelProto.FromString(data[:])
            except (DecodeError, ValueError) as error:
                raise PackageInvalid(fact="it is not an ONNX model", remedy=_EXPORT) from error


def _check_model(model: Any) -> None:
    import onnx

    if not 3 <= model.ir_version <= onnx.IR_VERSION or not model.HasField("graph"):
        raise PackageInvalid(fact=f"its ONNX version {model.ir_version} is not known here", remedy=_EXPORT)
    imports = [(item.domain, item.version) for item in model.opset_import]
    foreign = sorted({domain for domain, _ in imports} - DOMAINS)
    if foreign:
        raise PackageRefused(
            fact=f"it imports the operator domain {shown(foreign[0])}",
            remedy="export it with standard ai.onnx operators only, and drop unused imports",
        )
    newest = onnx.defs.onnx_opset_version()
    if len(imports) != 1 or not OLDEST_OPSET <= imports[0][1] <= newest:
        raise PackageInvalid(
            fact=f"its operator set is not one ai.onnx version from {OLDEST_OPSET} to {newest}", remedy=_EXPORT
        )
    if len(model.graph.node) > MOST_NODES:
        raise PackageRefused(fact=f"it has more than {MOST_NODES} nodes", remedy="simplify the graph")


def _check_nodes(model: Any, tensors: TensorChecker) -> None:
    graph = model.graph
    known = {value.name for value in graph.input}
    for initializer in graph.initializer:
        tensors.check(initializer)
        _define(known - {value.name for value in graph.input}, known, initializer.name)
    schema_of = _schemas(model.opset_import[0].version)
    for node in graph.node:
        _check_operator(node, schema_of)
        for attribute in node.attribute:
            _check_attribute(node, attribute, tensors)
        missing = [name for name in node.input if name and name not in known]
        if missing:
            raise PackageInvalid(fact=f"{shown(missing[0])} is used before it is computed", remedy=_EXPORT)
        tensors.check_sizes(node)
        for name in filter(None, node.output):
            _define(known, known, name)
    for value in graph.output:
        if value.name not in known:
            raise PackageInvalid(fact=f"nothing computes the output {shown(value.name)}", remedy=_EXPORT)


def _define(taken: set[str], known: set[str], name: str) -> None:
    if not name or name in taken:
        raise PackageInvalid(fact=f"the name {shown(name)} is given twice", remedy=_EXPORT)
    known.add(name)


def _schemas(opset: int) -> Callable[[str], Any]:
    import onnx

    found: dict[str, Any] = {}

    def schema_of(operator: str) -> Any:
        if operator not in found:
            known = onnx.defs.has(operator, opset, "")
            found[operator] = onnx.defs.get_schema(operator, opset, "") if known else None
        return found[operator]

    return schema_of


def _check_operator(node: Any, schema_of: Callable[[str], Any]) -> None:
    if node.domain not in DOMAINS:
        raise PackageRefused(
            fact=f"it uses the custom operator {shown(node.op_type)} of domain {shown(node.domain)}",
            remedy="export it with standard ai.onnx operators only",
        )
    if node.op_type not in OPERATORS:
        raise PackageRefused(
            fact=f"the operator {shown(node.op_type)} is not on the closed list", remedy="export the graph without it"
        )
    schema = schema_of(node.op_type)
    if schema is None:
        raise PackageInvalid(fact=f"{node.op_type} is not of the operator set that it imports", remedy=_EXPORT)
    if not schema.min_input <= len(node.input) <= schema.max_input or len(node.output) > schema.max_output:
        raise PackageInvalid(fact=f"a {node.op_type} node has a wrong number of inputs or outputs", remedy=_EXPORT)
    unknown = sorted({attribute.name for attribute in node.attribute} - set(schema.attributes))
    if unknown:
        raise PackageInvalid(fact=f"a {node.op_type} node has no attribute {shown(unknown[0])}", remedy=_EXPORT)


def _check_attribute(node: Any, attribute: Any, tensors: TensorChecker) -> None:
    if attribute.HasField("g") or attribute.graphs:
        raise PackageRefused(fact="the graph holds a subgraph", remedy="export it without control flow")
    for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
        tensors.check(tensor, in_file=True)
    if node.op_type == "Constant":
        tensors.remember_constant(node, attribute)
        if attribute.name in ("value_string", "value_strings"):
            raise PackageRefused(fact="it holds a text constant", remedy="export the graph without it")
    if attribute.name in SIZED_BY_ATTRIBUTE:
        numbers = [*attribute.ints, *([attribute.i] if attribute.HasField("i") else [])]
        if any(abs(number) > MOST_ATTRIBUTE for number in numbers):
            raise PackageRefused(
                fact=f"{attribute.name} of a {node.op_type} node is beyond {MOST_ATTRIBUTE}", remedy=_EXPORT
            )


def _check_ends(graph: Any, spec: GraphSpec, manifest: Manifest) -> None:
    held = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    wanted = [name for name in (spec.input, spec.record) if name]
    for values, names, what in ((inputs, wanted, "input"), (list(graph.output), [spec.output], "output")):
        if sorted(value.name for value in values) != sorted(names):
            found = ", ".join(shown(value.name, 40) for value in values[:4]) or "none"
            raise PackageInvalid(
                fact=f"the manifest names the {what} {' and '.join(map(repr, names))}, the graph has {found}",
                remedy=f"correct {what} in [[graphs]], or export a graph with one {what}",
            )
    channels, shape, classes, answered = manifest.ends_of(spec)
    by_name = {value.name: value for value in inputs}
    columns = len(manifest.input.record)
    if spec.record:
        _check_shape(by_name[spec.record], "record", columns, "columns", None)
    if not manifest.input.channels:
        _check_shape(by_name[spec.input], "input", columns, "columns", None)
    else:
        _check_shape(by_name[spec.input], "input", channels, "channels", shape, manifest.task == "dynamic")
    per_image = bool(manifest.output.classes or manifest.output.quantities)
    on_cells = bool(manifest.output.boxes)
    _check_shape(
        graph.output[0], "output", classes, "classes", None if per_image else (0, 0, 0) if on_cells else answered
    )


def _check_shape(
    value: Any, what: str, count: int, of: str, window: tuple[int, int, int] | None, sequence: bool = False
) -> None:
    """One end of the graph: (batch, count), or (batch, [times,] count, slices, rows, columns); 0 is any size."""
    import onnx

    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        raise PackageInvalid(
            fact=f"the {what} is not 32-bit float", remedy="keep input and output in fp32 and cast inside the graph"
        )
    sizes = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim]
    axes = ["batch", *(["times"] if sequence else []), of, *([] if window is None else ["slices", "rows", "columns"])]
    if len(sizes) != len(axes):
        raise PackageInvalid(
            fact=f"the {what} has {len(sizes)} axes, not {len(axes)}", remedy=f"export it as ({', '.join(axes)})"
        )
    if any(size is not None and size < 1 for size in sizes):
        raise PackageInvalid(fact=f"the {what} has an axis below 1", remedy=_EXPORT)
    place = 2 if sequence else 1
    if sizes[place] != count:
        found = "an unknown number of" if sizes[place] is None else sizes[place]
        raise PackageInvalid(
            fact=f"the {what} has {found} {of}, the manifest means {count}",
            remedy="correct the manifest, or export the graph with that size fixed",
        )
    for size, wanted in zip(sizes[place + 1 :], window or (), strict=True):
        if size is not None and wanted and size != wanted:
            raise PackageInvalid(
                fact=f"the {what} is fixed to {size} voxels where the window has {wanted}",
                remedy="correct window.shape, or export with free sizes",
            )

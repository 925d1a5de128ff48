"""Costs of graphs: liveness by hand-counted examples, shapes of real ONNX files."""

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hounsfield.errors import EngineUnavailable, PackageInvalid
from hounsfield.planning import GraphNode, cost_of, read_cost


def chain(sizes: list[int]) -> list[GraphNode]:
    return [GraphNode(f"n{i}", "Conv", (f"t{i}",), (f"t{i + 1}",), (size,)) for i, size in enumerate(sizes)]


def test_a_chain_keeps_two_neighbours_alive() -> None:
    cost = cost_of(chain([10, 20, 10]), {"t0": 10}, ["t3"], 7, 1)
    assert cost.live_bytes == 30
    assert cost.total_bytes == 40
    assert cost.weights_bytes == 7


def test_a_skip_stays_alive_until_it_is_joined() -> None:
    nodes = [*chain([10, 10, 10]), GraphNode("join", "Concat", ("t1", "t3"), ("out",), (20,))]
    assert cost_of(nodes, {"t0": 1}, ["out"], 0, 1).live_bytes == 40


def test_an_activation_works_in_place() -> None:
    nodes = [GraphNode("c", "Conv", ("t0",), ("t1",), (100,)), GraphNode("r", "Relu", ("t1",), ("t2",), (100,))]
    assert cost_of(nodes, {"t0": 1}, ["t2"], 0, 1).live_bytes == 101


def test_an_activation_whose_input_is_used_again_is_not_in_place() -> None:
    nodes = [
        GraphNode("c", "Conv", ("t0",), ("t1",), (100,)),
        GraphNode("r", "Relu", ("t1",), ("t2",), (100,)),
        GraphNode("a", "Add", ("t1", "t2"), ("t3",), (100,)),
    ]
    assert cost_of(nodes, {"t0": 1}, ["t3"], 0, 1).live_bytes == 300


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_the_arena_lies_between_what_lives_and_everything(sizes: list[int]) -> None:
    cost = cost_of(chain(sizes), {"t0": 5}, [f"t{len(sizes)}"], 0, 1)
    assert cost.live_bytes <= cost.arena_bytes <= cost.total_bytes + 5


def save(path: Path, nodes: list[onnx.NodeProto], shape: list[object], weights: dict[str, list[int]]) -> Path:
    made = [helper.make_tensor(n, TensorProto.FLOAT, d, bytes(4 * _product(d)), raw=True) for n, d in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        made,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("strange", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), str(path))
    return path


def _product(dims: list[int]) -> int:
    result = 1
    for dim in dims:
        result *= dim
    return result


DYNAMIC = ["n", 1, "d", "h", "w"]


def conv(source: str, target: str, weight: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [target], pads=[1] * 6)


def test_a_dynamic_graph_is_sized_for_the_window(tmp_path: Path) -> None:
    nodes = [conv("x", "a", "w1"), helper.make_node("Relu", ["a"], ["b"]), conv("b", "y", "w2")]
    path = save(tmp_path / "g.onnx", nodes, DYNAMIC, {"w1": [8, 1, 3, 3, 3], "w2": [2, 8, 3, 3, 3]})
    cost = read_cost(path, (8, 16, 16))
    voxels = 8 * 16 * 16
    assert cost.voxels == voxels
    assert cost.weights_bytes == 4 * (8 * 27 + 2 * 8 * 27)
    assert cost.operations == voxels * (2 * 8 * 27 + 8 + 2 * 2 * 8 * 27)
    assert cost.live_bytes == voxels * 4 * (8 + 2)
    assert cost.scaled(2 * voxels).arena_bytes == 2 * cost.arena_bytes


def test_a_fixed_shape_must_be_the_windows(tmp_path: Path) -> None:
    path = save(tmp_path / "g.onnx", [conv("x", "y", "w")], [1, 1, 8, 8, 8], {"w": [2, 1, 3, 3, 3]})
    assert read_cost(path, (8, 8, 8)).voxels == 512
    with pytest.raises(PackageInvalid, match="fixed input shape"):
        read_cost(path, (16, 8, 8))


def test_a_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "g.onnx", [helper.make_node("Magic", ["x"], ["y"], domain="strange")], DYNAMIC, {})
    with pytest.raises(EngineUnavailable, match="strange::Magic"):
        read_cost(path, (8, 8, 8))


def test_an_operator_without_a_size_is_bounded_and_said(tmp_path: Path) -> None:
    nodes = [
        conv("x", "a", "w"),
        helper.make_node("NonZero", ["a"], ["i"]),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "g.onnx", nodes, DYNAMIC, {"w": [4, 1, 3, 3, 3]})
    cost = read_cost(path, (8, 8, 8))
    assert any("NonZero" in note for note in cost.notes)
    assert cost.arena_bytes >= 8**3 * 4 * 4 * 2


def test_a_graph_in_two_dimensions_and_what_is_no_graph_are_refused(tmp_path: Path) -> None:
    flat = save(tmp_path / "flat.onnx", [helper.make_node("Relu", ["x"], ["y"])], [1, 1, 8, 8], {})
    with pytest.raises(PackageInvalid, match="4 axes"):
        read_cost(flat, (8, 8, 8))
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x00\xff" * 50)
    with pytest.raises(PackageInvalid, match=r"cannot be parsed|axes|input"):
        read_cost(junk, (8, 8, 8))

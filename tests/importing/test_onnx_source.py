"""An ONNX of another tool: data brought inside, the chosen output kept, proven against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from answering import CHANNEL, answers, do_import
from onnx import TensorProto, helper, numpy_helper

from hounsfield.errors import AnswersMissing, SourceRefused
from hounsfield.usecases.import_model import ImportRequest, import_model


def network(folder: Path, *, outputs: int = 1, window: list[Any] | None = None) -> Path:
    """Two convolutions whose weights lie in another file, as large exports have them."""
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.standard_normal((4, 1, 3, 3, 3)).astype(np.float32),
        "w2": generator.standard_normal((3, 4, 1, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["scan", "w1"], ["features"], kernel_shape=[3] * 3, pads=[1] * 6),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("Conv", ["positive", "w2"], ["scores"], kernel_shape=[1] * 3),
        helper.make_node("Identity", ["positive"], ["aside"]),
    ]
    sizes = ["n", 1, *(window or ["k", "j", "i"])]
    ends = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3, *sizes[2:]])]
    ends += [helper.make_tensor_value_info("aside", TensorProto.FLOAT, ["n", 4, *sizes[2:]])]
    body = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("scan", TensorProto.FLOAT, sizes)],
        ends[:outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(body, opset_imports=imports, ir_version=8)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    return folder


def given(**source: Any) -> dict[str, Any]:
    table = {"spacing_mm": [1.0, 1.0, 1.0], "intensity": [{"step": "z-score"}], "orientation": "LPS"}
    table |= {"window": {"shape": [16, 16, 16], "overlap": 0.5}, "channels": [CHANNEL]}
    out = answers(["first", "second"], input=table, output={"activation": "softmax"})
    return {**out, **({"source": source} if source else {})}


def test_external_data_come_inside_and_both_engines_agree(tmp_path: Path) -> None:
    result = do_import(network(tmp_path / "model"), tmp_path, given())
    assert result.package is not None
    assert {(golden.engine, golden.made_by.split()[0]) for golden in result.goldens} == {
        ("onnxruntime", "onnxruntime"),
        ("openvino", "onnxruntime"),
    }
    assert all(golden.difference < 1e-4 for golden in result.goldens)
    assert [name for name in result.package.files if name.startswith("graphs/")] == ["graphs/fp32.onnx"]
    model = onnx.load(str(result.package.graph_path("fp32")))
    assert [item.domain for item in model.opset_import] == [""]
    assert len(model.graph.initializer) == 2


def test_of_several_outputs_the_named_one_is_kept(tmp_path: Path) -> None:
    source = network(tmp_path / "model", outputs=2)
    with pytest.raises(AnswersMissing, match=r"source\.output"):
        do_import(source, tmp_path, given())
    result = do_import(source, tmp_path, given(output="scores"))
    assert result.package is not None
    assert result.package.graph("fp32").output == "scores"
    with pytest.raises(SourceRefused, match="use one of: scores, aside"):
        do_import(source, tmp_path / "model", given(output="nothing"))


def test_a_fixed_window_is_stated_in_the_template(tmp_path: Path) -> None:
    source = network(tmp_path / "model", window=[16, 24, 32])
    result = import_model(ImportRequest(source))
    assert result.claim.template["input"]["window"]["shape"] == [16, 24, 32]


def test_two_dimensional_graphs_are_refused_with_the_way_out(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 64, 64])],
    )
    path = tmp_path / "flat.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(SourceRefused, match=r"export it as \(batch, channels, slices, rows, columns\)"):
        import_model(ImportRequest(path))

"""ONNX Runtime sessions are opened in one place, with telemetry off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import hounsfield
from hounsfield.onnx_session import open_session, session_options

#: May open a session itself: it is copied to machines that have no hounsfield, and switches telemetry off too.
ALONE = "compression/edge_runner.py"


def doubled() -> bytes:
    """A graph that adds its input to itself."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("image", "twice")]
    graph = helper.make_graph([helper.make_node("Add", ["image", "image"], ["twice"])], "twice", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_telemetry_is_off_before_a_session_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    opened = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: done.append("quiet"))

    def session(*given: object, **named: object) -> object:
        done.append("open")
        return opened(*given, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    path = tmp_path / "twice.onnx"
    path.write_bytes(doubled())
    for model in (path, doubled()):
        (answer,) = open_session(model, session_options(1)).run(None, {"image": np.array([1, 2], np.float32)})
        assert answer.tolist() == [2, 4]
    assert done == ["quiet", "open"] * 2


def test_no_room_opens_a_session_by_itself() -> None:
    source = Path(hounsfield.__file__).parent
    found = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "InferenceSession(" in path.read_text(encoding="utf-8")
    }
    assert found == {"onnx_session.py", ALONE}
    assert "disable_telemetry_events()" in (source / ALONE).read_text(encoding="utf-8")

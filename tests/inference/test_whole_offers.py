"""What is predicted of whole-volume runs, what planning makes of it, and graphs that are damaged."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import EngineUnavailable, PackageInvalid
from hounsfield.inference.whole import WholeRun, WholeSettings, read_network
from hounsfield.inference.whole.offers import predicted_spill, predicted_workspace, whole_offers
from hounsfield.planning import Budget, Machine, Need, NoPlan, Plan, choose

from .graphs import small_unet_like

GRID = (48, 32, 32)
MACHINE = Machine("this CPU", 2, 2**34, 2**34, frozenset({"amx_bf16"}))
NEED = Need(GRID, GRID, (16, 16, 16), 0.25, 3, mode="whole")


def test_deeper_slabs_take_more_memory_and_less_time() -> None:
    grid = (96, 48, 48)
    offers = [o for o in whole_offers(read_network(small_unet_like(1, 32, 3)), grid, MACHINE) if o.precision == "fp32"]
    assert len(offers) >= 3
    assert [o.workspace_bytes for o in offers] == sorted(o.workspace_bytes for o in offers)
    assert [o.seconds for o in offers] == sorted((o.seconds for o in offers), reverse=True)
    assert len({o.spill_bytes for o in offers}) == 1


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_the_disk_space_is_predicted_exactly(storage: str, tmp_path: Path) -> None:
    network = read_network(small_unet_like(1, 8, 3))
    run = WholeRun(network, GRID, WholeSettings("onnxruntime", storage=storage, folder=tmp_path, slab_bytes=12 << 20))
    x = np.random.default_rng(0).normal(size=(1, *GRID)).astype(np.float32)
    for _ in run.run(lambda start, stop: x[:, start:stop]):
        pass
    assert run.figures.spill_peak_bytes == predicted_spill(run)
    assert predicted_spill(run) == 2 * 8 * math.prod(GRID) * (4 if storage == "fp32" else 2)
    assert run.figures.written_bytes == predicted_spill(run)


def test_the_working_set_grows_with_the_volumes_cross_section_not_with_its_slices() -> None:
    network = read_network(small_unet_like(1, 32, 3))
    settings = WholeSettings(slab_bytes=1)
    one, longer, wider = (
        predicted_workspace(WholeRun(network, grid, settings)) for grid in ((64, 64, 64), (512, 64, 64), (64, 256, 256))
    )
    assert longer == one
    assert wider > one


def test_a_tighter_budget_gives_shallower_slabs_and_an_impossible_one_names_the_window_mode() -> None:
    network = read_network(small_unet_like(1, 32, 3))
    offers = list(whole_offers(network, GRID, MACHINE))
    roomy = choose(NEED, Budget(), MACHINE, [], offers)
    assert isinstance(roomy, Plan)
    assert (roomy.mode, roomy.storage, roomy.precision) == ("whole", "fp32", "fp32")
    tight = choose(NEED, Budget(host_bytes=roomy.host_peak_bytes - (1 << 20)), MACHINE, [], offers)
    assert isinstance(tight, Plan)
    assert tight.slab_depth < roomy.slab_depth
    assert tight.slab_bytes < roomy.slab_bytes
    assert Plan.from_toml(tight.to_toml()) == tight
    none = choose(NEED, Budget(host_bytes=50 << 20), MACHINE, [], offers)
    assert isinstance(none, NoPlan)


def test_bf16_without_evidence_is_not_chosen_unasked() -> None:
    offers = list(whole_offers(read_network(small_unet_like(1, 32, 3)), GRID, MACHINE))
    assert {o.precision for o in offers} == {"fp32", "bf16"}
    with pytest.raises(EngineUnavailable, match=r"nothing runs|no engine"):
        choose(Need(GRID, GRID, (16, 16, 16), 0.25, 3, mode="whole", precision="bf16"), Budget(), MACHINE, [], offers)


MODEL = small_unet_like(1, 32, 3)


@given(st.data())
def test_a_damaged_graph_never_gives_anything_but_a_clear_error(data: st.DataObject) -> None:
    damaged = bytearray(MODEL)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 10, 0]))
    try:
        network = read_network(bytes(damaged[:end]))
    except (PackageInvalid, EngineUnavailable):
        return
    assert network.channels >= 1


def test_weights_from_a_file_equal_those_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(MODEL)
    mapped, held = read_network(path), read_network(MODEL)
    for one, other in zip(mapped.operators, held.operators, strict=True):
        assert one.constants.keys() == other.constants.keys()
        for at, array in one.constants.items():
            np.testing.assert_array_equal(array, other.constants[at])
    assert mapped.pages is not None
    mapped.release_weights()
    np.testing.assert_array_equal(mapped.operators[0].constants[1], held.operators[0].constants[1])

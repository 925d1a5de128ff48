"""The streaming window equals MONAI's SlidingWindowInferer and a plain float64 reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer

from hounsfield.errors import EngineError, SettingsError
from hounsfield.inference import (
    Decision,
    Head,
    LoadSettings,
    OnnxGraph,
    RunSettings,
    WindowGrid,
    engine,
    importance,
    load_network,
    segment,
    starts,
    walk_order,
)
from hounsfield.packages.manifest import InputSpec, WindowSpec
from hounsfield.preparing import Prepared, prepare
from hounsfield.volume import Geometry, Quantity, Volume

from .graphs import FunctionSession, small_unet_like

HIGHEST = Decision("highest")


def prepared(shape: tuple[int, int, int], window: WindowSpec, seed: int = 0, **spec: object) -> Prepared:
    array = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    scan = Volume(array, Geometry.from_parts(shape, (1.0, 1.0, 1.0)), Quantity.ARBITRARY)
    table = {"channels": [{"name": "mr", "modality": "MR"}], "window": window, **spec}
    return prepare(scan, InputSpec.model_validate(table))


def random_network(classes: int, seed: int = 1) -> torch.nn.Module:
    """A network whose answer depends on where the window lies (instance norm)."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1),
        torch.nn.InstanceNorm3d(6),
        torch.nn.LeakyReLU(),
        torch.nn.Conv3d(6, classes, 3, padding=1),
    ).eval()


def session_of(network: torch.nn.Module) -> FunctionSession:
    def answer(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(np.ascontiguousarray(batch))).numpy()

    return FunctionSession(answer)


def monai_scores(scan: Prepared, window: WindowSpec, network: torch.nn.Module) -> np.ndarray:
    inferer = SlidingWindowInferer(
        window.shape,
        overlap=window.overlap,
        mode=window.blending,
        sigma_scale=window.sigma,
        padding_mode="constant",
        cval=window.pad_value,
    )
    with torch.inference_mode():
        return inferer(torch.from_numpy(scan.array[None]), network)[0].numpy()


@pytest.mark.parametrize("n", [16, 17, 40, 96, 200, 511])
@pytest.mark.parametrize("window", [8, 16])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_stride_positions_are_monais(n: int, window: int, overlap: float) -> None:
    interval = max(1, int(window * (1 - overlap))) if n != window else n
    theirs = [each[0].start for each in dense_patch_slices((n,), (window,), (interval,), return_slice=True)]
    assert list(starts(n, window, overlap, "stride")) == theirs


@pytest.mark.parametrize(
    ("n", "window", "overlap", "wanted"),
    [
        # Worked by hand from nnU-Net's rule: ceil((n - w) / (w * step)) + 1 windows, evenly spread, rounded.
        (96, 96, 0.5, (0,)),
        (97, 96, 0.5, (0, 1)),
        (200, 96, 0.5, (0, 35, 69, 104)),
        (512, 128, 0.5, (0, 64, 128, 192, 256, 320, 384)),
        (100, 32, 0.0, (0, 23, 45, 68)),
        (34, 32, 0.9, (0, 2)),
    ],
)
def test_even_positions_are_nnunets(n: int, window: int, overlap: float, wanted: tuple[int, ...]) -> None:
    assert starts(n, window, overlap, "even") == wanted


@pytest.mark.parametrize(
    ("shape", "overlap", "blending"),
    [
        ((30, 23, 31), 0.0, "gaussian"),
        ((30, 23, 31), 0.25, "gaussian"),
        ((30, 23, 31), 0.5, "constant"),
        ((15, 14, 17), 0.9, "gaussian"),
        ((10, 30, 15), 0.25, "constant"),
        ((5, 20, 12), 0.5, "gaussian"),
        ((4, 3, 6), 0.5, "gaussian"),
    ],
)
def test_equals_monais_inferer(shape: tuple[int, int, int], overlap: float, blending: str) -> None:
    window = WindowSpec(shape=(8, 10, 12), overlap=overlap, positions="stride", blending=blending, pad_value=-0.5)
    scan, network = prepared(shape, window), random_network(4)
    theirs = monai_scores(scan, window, network)
    out = segment(scan, session_of(network), window, HIGHEST)
    assert np.mean(out.labels.array != theirs.argmax(0)) <= 1e-5
    assert out.windows == WindowGrid.over(shape, window).count
    top = np.sort(theirs, axis=0)
    clear = top[-1] - top[-2] > 1e-4
    np.testing.assert_array_equal(out.labels.array[clear], theirs.argmax(0)[clear])


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("accumulator", ["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_walk_accumulator_and_batch_do_not_matter(axis: int | None, accumulator: str, batch: int) -> None:
    window = WindowSpec(shape=(12, 16, 10), overlap=0.4)
    scan, network = prepared((30, 33, 37), window), random_network(5)
    reference = segment(scan, session_of(network), window, HIGHEST, settings=RunSettings(axis=0)).labels.array
    settings = RunSettings(batch=batch, accumulator=accumulator, axis=axis, head_block=777)
    labels = segment(scan, session_of(network), window, HIGHEST, settings=settings).labels.array
    assert np.mean(labels != reference) <= (1e-5 if accumulator == "float32" else 1e-3)
    assert len(np.unique(reference)) == 5


def test_the_head_commutes_with_blending() -> None:
    window = WindowSpec(shape=(16, 16, 16), overlap=0.5)
    scan = prepared((33, 40, 28), window)
    graph = OnnxGraph(small_unet_like(1, 8, 23))
    settings = LoadSettings("fp32", window.shape, threads=1)
    answers = {}
    for accumulate in ("logits", "features", "auto"):
        loaded = load_network(engine("openvino"), graph, settings, accumulate)
        assert (loaded.head is None) == (accumulate == "logits")
        answers[accumulate] = segment(scan, loaded.session, window, HIGHEST, head=loaded.head).labels.array
        loaded.session.close()
    assert np.mean(answers["logits"] != answers["features"]) <= 1e-4
    np.testing.assert_array_equal(answers["features"], answers["auto"])
    assert len(np.unique(answers["logits"])) > 10


def test_resampled_labels_are_those_of_interpolated_scores() -> None:
    """Slab by slab equals: all scores at once, class-wise linear, then argmax."""
    from hounsfield.preparing import restore_scores

    window = WindowSpec(shape=(12, 14, 10), overlap=0.3)
    for spacing in ((0.7, 1.6, 1.0), (1.45, 0.5, 0.8), (2.2, 2.2, 2.2)):
        scan = prepared((31, 29, 37), window, spacing_mm=spacing, orientation="PIR")
        network = random_network(4)
        stride = window.model_copy(update={"positions": "stride"})
        theirs = restore_scores(monai_scores(scan, stride, network), scan).argmax(0)
        for axis in (0, 1, 2):
            out = segment(scan, session_of(network), stride, HIGHEST, settings=RunSettings(axis=axis, head_block=500))
            assert np.mean(out.labels.array != theirs) <= 1e-4


def test_sigmoid_thresholds_the_blended_logit() -> None:
    window = WindowSpec(shape=(12, 12, 12), overlap=0.5, positions="stride")
    scan, network = prepared((20, 26, 30), window), random_network(2)
    scores = monai_scores(scan, window, network)
    for threshold in (-0.2, 0.0, 0.15):
        labels = segment(scan, session_of(network), window, Decision("above", threshold)).labels.array
        wanted = np.where(scores.max(0) > threshold, scores.argmax(0) + 1, 0)
        assert np.mean(labels != wanted) <= 1e-4
        assert set(np.unique(labels)) == {0, 1, 2}


def test_empty_windows_are_skipped_and_are_background() -> None:
    window = WindowSpec(shape=(8, 8, 8), overlap=0.25, positions="stride", skip_below=-0.5, pad_value=-1.0)
    array = np.full((30, 30, 30), -1.0, np.float32)
    array[20:26, 3:9, 11:19] = 2.0
    scan = Volume(array, Geometry.from_parts(array.shape))
    made = prepare(scan, InputSpec.model_validate({"channels": [{"name": "ct", "modality": "CT"}], "window": window}))
    session = FunctionSession(lambda x: np.concatenate((np.zeros_like(x), x), axis=1))
    seen: list[tuple[int, int]] = []
    out = segment(made, session, window, HIGHEST, on_progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(out.labels.array, array > 0)
    assert session.calls == out.windows - out.skipped
    assert 0 < session.calls < out.windows / 4
    assert seen == [(n + 1, out.windows) for n in range(out.windows)]
    every = FunctionSession(lambda x: np.concatenate((np.ones_like(x), x), axis=1))
    segment(made, every, window, HIGHEST, settings=RunSettings(skip_empty=False))
    assert every.calls == out.windows


def test_a_scan_of_air_runs_nothing_and_clears_the_output() -> None:
    window = WindowSpec(shape=(8, 8, 8), skip_below=0.0)
    scan = Volume(np.full((12, 9, 9), -1.0, np.float32), Geometry.from_parts((12, 9, 9)))
    made = prepare(scan, InputSpec.model_validate({"channels": [{"name": "ct", "modality": "CT"}], "window": window}))
    session = FunctionSession(lambda x: x)
    out = np.full((12, 9, 9), 7, np.uint8)
    result = segment(made, session, window, HIGHEST, out=out)
    assert session.calls == 0
    assert result.skipped == result.windows
    assert not out.any()


def test_slabs_are_reported_once_each_and_in_order() -> None:
    window = WindowSpec(shape=(8, 8, 8), overlap=0.5)
    scan = prepared((41, 20, 20), window, spacing_mm=(1.3, 1.0, 1.0))
    slabs: list[tuple[int, int, int]] = []
    out = np.full((41, 20, 20), 255, np.uint8)

    def check(axis: int, low: int, high: int) -> None:
        slabs.append((axis, low, high))
        assert (out[:high] < 4).all()
        assert (out[high:] == 255).all()

    segment(scan, session_of(random_network(4)), window, HIGHEST, out=out, settings=RunSettings(axis=0), on_slab=check)
    assert slabs[0][1] == 0
    assert slabs[-1][2] == 41
    assert all(before[2] == after[1] for before, after in itertools.pairwise(slabs))
    assert len(slabs) > 5


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("spacing", [None, (0.8, 1.2, 1.7)])
def test_layers_run_apart_give_the_same_labels(parts: int, spacing: tuple[float, float, float] | None) -> None:
    window = WindowSpec(shape=(8, 8, 8), overlap=0.6)
    scan, network = prepared((30, 17, 19), window, spacing_mm=spacing), random_network(4)
    whole = segment(scan, session_of(network), window, HIGHEST).labels.array
    axis = walk_order(scan.shape, None)[0]
    layers = len(WindowGrid.over(scan.shape, window).starts[axis])
    edges = np.linspace(0, layers, parts + 1).astype(int)
    out = np.full(whole.shape, 255, np.uint8)
    for low, high in reversed(list(itertools.pairwise(edges.tolist()))):
        segment(scan, session_of(network), window, HIGHEST, out=out, layers=range(low, high))
    np.testing.assert_array_equal(out, whole)
    with pytest.raises(SettingsError, match="layers"):
        segment(scan, session_of(network), window, HIGHEST, out=out, layers=range(layers + 1))


def test_labels_go_to_a_memory_mapped_file(tmp_path) -> None:
    window = WindowSpec(shape=(8, 8, 8), overlap=0.5)
    source = np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.int16, (20, 18, 22))
    source[...] = np.random.default_rng(0).integers(-100, 100, source.shape)
    source.flush()
    lazy = Volume(np.load(tmp_path / "in.npy", mmap_mode="r"), Geometry.from_parts(source.shape))
    table = {"channels": [{"name": "ct", "modality": "CT"}], "window": window, "intensity": [{"step": "z-score"}]}
    made = prepare(lazy, InputSpec.model_validate(table))
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint16, source.shape)
    network = random_network(4)
    segment(made, session_of(network), window, HIGHEST, out=out)
    out.flush()
    reference = segment(made, session_of(network), window, HIGHEST).labels.array
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), reference)


def test_answers_too_large_for_half_floats_are_an_error() -> None:
    window = WindowSpec(shape=(8, 8, 8), overlap=0.5)
    session = FunctionSession(lambda x: np.concatenate((x, x * 1e6), axis=1))
    with pytest.raises(EngineError, match="float16"):
        segment(prepared((20, 20, 20), window), session, window, HIGHEST, settings=RunSettings(accumulator="float16"))


def test_senseless_settings_are_refused() -> None:
    window = WindowSpec(shape=(8, 8, 8))
    scan = prepared((9, 9, 9), window)
    for bad in ({"batch": 0}, {"axis": 3}, {"head_block": 0}):
        with pytest.raises(SettingsError):
            RunSettings(**bad)
    with pytest.raises(SettingsError, match="shape"):
        segment(scan, FunctionSession(lambda x: x), window, HIGHEST, out=np.zeros((9, 9, 8), np.uint8))
    fits = FunctionSession(lambda x: np.repeat(x, 256, axis=1))
    assert not segment(scan, fits, window, HIGHEST).labels.array.any()
    wide = FunctionSession(lambda x: np.repeat(x, 300, axis=1))
    with pytest.raises(SettingsError, match="uint16"):
        segment(scan, wide, window, HIGHEST)


def test_importance_is_a_gaussian_with_a_floor() -> None:
    weight = importance(WindowSpec(shape=(8, 12, 10), sigma=0.2))
    z = np.exp(-((np.arange(8) - 3.5) ** 2) / (2 * 1.6**2))
    np.testing.assert_allclose(weight[:, 5, 4] / weight[3, 5, 4], z / z[3], rtol=1e-5)
    np.testing.assert_array_equal(weight, weight[::-1, ::-1, ::-1])
    assert importance(WindowSpec(shape=(32, 32, 32))).min() == np.float32(1e-3)
    assert importance(WindowSpec(shape=(4, 4, 4), blending="constant")).tolist() == np.ones((4, 4, 4)).tolist()


def test_head_says_when_it_is_smaller() -> None:
    assert Head(np.zeros((118, 32), np.float32), np.zeros(118, np.float32)).smaller
    assert not Head(np.zeros((3, 32), np.float32), np.zeros(3, np.float32)).smaller

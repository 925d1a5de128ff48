"""What lies over the images: every voxel at its place, whatever the grids, and switched without moving one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page
from tests.browser import chest
from tests.browser.answered import SEGMENTS, answer
from tests.browser.chromium import window
from tests.browser.served import PASSWORD
from tests.server.serving import Serving, fill

from hounsfield.usecases.node.people import add_user

pytestmark = [pytest.mark.timeout(600), pytest.mark.shared_data]
VIEWER = "window.hounsfieldViewer"
READ = """async ([base, image]) => {
  const { NVImage } = await import("/static/vendor/niivue.js");
  const { filled, laidOn, levelled } = await import("/static/voxels.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const unpack = (text) => NVImage.loadFromUrl({ url: bytes(text), name: "x.nii" });
  const [below, above] = [await unpack(base), await unpack(image)];
  const box = filled(above);
  const { low, size, values } = laidOn(below, above, box);
  const levels = levelled(below, -100, 400, Uint8Array.from({ length: 256 }, (_, at) => at));
  return { box, low, size, values: [...values], levels: [...levels], dims: [...below.dimsRAS].slice(1) };
}"""
MIX = """async () => {
  const { LabelSets } = await import("/static/labels.js");
  const sets = new LabelSets([4, 3, 2]);
  const whole = { low: [0, 0, 0], size: [4, 3, 2] };
  sets.lay("a", { ...whole, values: Uint8Array.from({ length: 24 }, (_, at) => at % 3) }, [1, 2]);
  sets.lay("b", { low: [1, 1, 0], size: [2, 2, 1], values: Uint8Array.from([5, 5, 0, 9]) }, [5]);
  const of = { a1: [255, 0, 0, 0.5], a2: [0, 255, 0, 1], b5: [0, 0, 255, 0.5] };
  const colours = sets.colours((one) => of[one.key + one.number]);
  const seen = [...sets.grid].map((set) => [...colours.slice(4 * set, 4 * set + 4)]);
  const on = [sets.on([1, 1, 0]), sets.on([2, 2, 0]), sets.on([4, 0, 0])];
  sets.erase("a");
  const left = [...sets.grid].map((set) => sets.sets[set].map((one) => one.number));
  const many = new LabelSets([400, 1, 1]);
  const numbers = Array.from({ length: 400 }, (_, at) => at);
  many.lay("m", { low: [0, 0, 0], size: [400, 1, 1], values: Uint16Array.from(numbers) }, numbers);
  return { seen, on, left, many: [0, 1, 255, 256, 399].map((x) => many.on([x, 0, 0]).map((one) => one.number)) };
}"""
#: The colour of the axial image at a place in RAS mm, the overlay at an opacity; how many volumes were sent for it.
LOOK = """([x, y, z, opacity]) => {
  const viewer = window.hounsfieldViewer, { nv } = viewer, { gl } = nv;
  let sent = 0;
  for (const name of ["texImage3D", "texSubImage3D"]) gl[name] = () => { sent += 1; };
  const slider = document.getElementById("opacity");
  slider.value = String(opacity);
  slider.dispatchEvent(new Event("input"));
  for (const name of ["texImage3D", "texSubImage3D"]) delete gl[name];
  nv.opts.crosshairWidth = 0;
  nv.scene.crosshairPos = nv.mm2frac([x, y, z]);
  nv.drawScene();
  const [column, row] = nv.frac2canvasPos(nv.scene.crosshairPos);
  const pixel = new Uint8Array(4);
  gl.readPixels(Math.floor(column), Math.floor(gl.drawingBufferHeight - row), 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  return { pixel: [...pixel].slice(0, 3), sent };
}"""


@dataclass
class Read:
    """A node with one scan and an answer over all of it."""

    serving: Serving
    labels: Any


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Read]:
    folder = tmp_path_factory.mktemp("overlays")
    (folder / "node").mkdir()
    files = sorted(chest.save(chest.slices(shared_data), folder / "scan", "20260101", "7").iterdir())
    with Serving(folder / "node") as serving:
        fill(serving.node, files)
        add_user(serving.node, "vera", "viewer", PASSWORD, "tester")
        yield Read(serving, answer(serving.node, lambda hu: (hu < -700) + 2 * (hu > 0)))


@pytest.fixture(scope="module")
def page(node: Read, browser: Browser) -> Iterator[Page]:
    with window(browser) as page:
        page.goto(f"http://127.0.0.1:{node.serving.port}/login")
        page.fill("input[name=name]", "vera")
        page.fill("input[name=password]", PASSWORD)
        page.click("form button.primary")
        page.locator("td.patient a").first.click()
        page.wait_for_selector("#study[data-viewer='1'][data-overlays='1']")
        yield page


def packed(array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    image = nibabel.Nifti1Image(array, affine)
    return base64.b64encode(image.to_bytes()).decode()


def turned(rng: np.random.Generator, spacing_mm: tuple[float, ...], order: list[int], signs: list[int]) -> Any:
    """An affine whose axes are permuted, flipped and tilted by some degrees."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis)
    tilt = np.eye(3) + np.sin(0.15) * cross + (1 - np.cos(0.15)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = (tilt @ np.eye(3)[:, order]) * signs * spacing_mm
    affine[:3, 3] = rng.uniform(-60, 60, 3)
    return affine


@pytest.mark.parametrize(
    ("order", "signs"), [([0, 1, 2], [-1, -1, 1]), ([2, 0, 1], [1, -1, -1]), ([1, 2, 0], [-1, 1, 1])]
)
def test_labels_of_any_grid_lie_on_the_nearest_voxels(page: Page, order: list[int], signs: list[int]) -> None:
    rng = np.random.default_rng(sum(signs) + order[0] + 10)
    base = nibabel.Nifti1Image(
        rng.integers(-1000, 1000, (13, 11, 7)).astype(np.int16), turned(rng, (1, 1.3, 2.5), order, signs)
    )
    grids = {
        "same": np.asarray(base.affine),
        "part": base.affine @ np.array([[1, 0, 0, 3], [0, 1, 0, 2], [0, 0, 1, 1], [0, 0, 0, 1.0]]),
        "coarse": base.affine @ np.array([[0, 2.1, 0, 1.2], [-1.7, 0, 0, 9.3], [0, 0, 1.4, 0.1], [0, 0, 0, 1]]),
    }
    for name, affine in grids.items():
        labels = rng.integers(0, 4, (6, 5, 4) if name != "same" else base.shape).astype(np.uint8)
        labels[:2] = 0
        told = page.evaluate(READ, [packed(base.dataobj, base.affine), packed(labels, affine)])
        closest = nibabel.as_closest_canonical(base)
        size = closest.shape
        assert told["dims"] == list(size)
        index = np.indices(size).reshape(3, -1)
        place = np.linalg.inv(affine)[:3] @ closest.affine @ np.vstack([index, np.ones(index.shape[1])])
        near = np.floor(place + 0.5).astype(int)
        inside = ((near >= 0) & (near < np.array(labels.shape)[:, None])).all(0)
        wanted = np.zeros(index.shape[1], int)
        wanted[inside] = labels[tuple(near[:, inside])]
        found = np.zeros(size, int)
        at = tuple(slice(low, low + length) for low, length in zip(told["low"], told["size"], strict=True))
        found[at] = np.reshape(told["values"], told["size"][::-1]).T
        sure = (np.abs(np.abs(place - np.floor(place)) - 0.5) > 1e-3).all(0)  # not between two voxels
        assert (found.ravel()[sure] == wanted[sure]).all(), name
        assert np.count_nonzero(wanted) > 20, name
        levels = np.reshape(told["levels"], size[::-1]).T
        wished = np.clip((closest.get_fdata() + 100) * 255 / 500, 0, 255)
        assert np.abs(levels - wished).max() <= 0.5


def test_sets_of_labels_have_the_colours_of_all_that_lie_there(page: Page) -> None:
    told = page.evaluate(MIX)
    seen = np.reshape(told["seen"], (2, 3, 4, 4))  # z, y, x
    first = np.arange(24).reshape(2, 3, 4) % 3
    for z, y, x in np.ndindex(2, 3, 4):
        over = z == 0 and (y, x) in {(1, 1), (1, 2)}
        rgb, alpha = np.zeros(3), 0.0
        below = {1: [([255, 0, 0], 0.5)], 2: [([0, 255, 0], 1.0)]}.get(int(first[z, y, x]), [])
        for colour, own in below + [([0, 0, 255], 0.5)] * over:
            both = own + alpha * (1 - own)
            rgb, alpha = (np.array(colour) * own + rgb * alpha * (1 - own)) / both, both
        assert np.allclose(seen[z, y, x], [*rgb, 255 * alpha], atol=1)
    assert [[one["number"] for one in place] for place in told["on"]] == [[2, 5], [1], []]
    assert [at for at, numbers in enumerate(told["left"]) if numbers] == [5, 6]
    assert told["left"][5] == [5]
    assert told["many"] == [[], [1], [255], [256], [399]]


def test_a_switch_changes_the_picture_and_sends_no_voxels(page: Page, node: Read) -> None:
    labels = node.labels
    array = np.asanyarray(labels.dataobj)
    page.locator("#views button[data-view=axial]").click()
    for number, (name, colour) in SEGMENTS.items():
        own = array == number
        deep = own.copy()  # voxels whose neighbours in the slice have the same label: nothing is mixed in
        for shift in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
            deep &= np.roll(own, shift, (0, 1, 2))
        voxel = np.argwhere(deep)[np.count_nonzero(deep) // 2]
        place = [float(one) for one in (labels.affine @ [*voxel, 1])[:3]]
        clear = page.evaluate(LOOK, [*place, 0])
        laid = page.evaluate(LOOK, [*place, 1])
        assert laid["pixel"] == pytest.approx(colour, abs=2)
        page.evaluate(f"{VIEWER}.tell()")
        assert page.locator("#readout").get_attribute("data-labels") == name
        assert max(clear["pixel"]) - min(clear["pixel"]) <= 1  # grey
        half = page.evaluate(LOOK, [*place, 0.5])
        assert half["pixel"] == pytest.approx(np.add(clear["pixel"], colour) / 2, abs=3)
        assert [one["sent"] for one in (clear, laid, half)] == [0, 0, 0]
    tick = page.locator("[id^='lay-']")
    tick.click()
    assert page.evaluate(LOOK, [*place, 1])["pixel"] == clear["pixel"]
    page.evaluate(f"{VIEWER}.tell()")
    assert page.locator("#readout").get_attribute("data-labels") == ""
    tick.click()
    assert page.evaluate(LOOK, [*place, 1])["pixel"] == laid["pixel"]
    page.evaluate(f"{VIEWER}.tell()")
    assert page.locator("#readout").get_attribute("data-labels") == name
    assert page.evaluate(f"{VIEWER}.nv.volumes.length") == 1

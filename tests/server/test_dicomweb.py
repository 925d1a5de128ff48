"""QIDO-RS and WADO-RS, asked by dicomweb-client and Orthanc, compared with pydicom and with Orthanc's own answers."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from .serving import Serving, fill

MR = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"
SEG = Path("dicom-seg-sr")
WANTED = ("StudyDate", "PatientName", "PatientID", "StudyInstanceUID", "PatientSex", "AccessionNumber")


def compressed(shared_data: Path, folder: Path) -> list[Path]:
    """One file of each transfer syntax of the tricky ones, in grey, each under a UID of its own."""
    found: dict[str, Path] = {}
    for path in sorted((shared_data / "dicom-tricky").rglob("*")):
        if path.is_file() and path.stat().st_size < 2**20 and path.read_bytes()[128:132] == b"DICM":
            header = dcmread(path, stop_before_pixels=True)
            if header.get("SamplesPerPixel") == 1 and header.get("StudyInstanceUID"):
                found.setdefault(str(header.file_meta.TransferSyntaxUID), path)
    copies = []
    for number, path in enumerate(found.values(), 1):
        one = dcmread(path)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.99.{number}"
        copies.append(folder / f"{number}.dcm")
        one.save_as(copies[-1])
    return copies


@pytest.fixture(scope="module")
def served(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    copies = compressed(shared_data, tmp_path_factory.mktemp("copies"))
    files = [*sorted((shared_data / MR).rglob("*.dcm")), *copies]
    files += [path for path in sorted((shared_data / SEG).rglob("*.dcm")) if path.stat().st_size < 2**21]
    with Serving(tmp_path_factory.mktemp("node")) as serving:
        assert fill(serving.node, files) >= 40
        yield serving


@pytest.fixture
def client(served: Serving) -> Iterator[DICOMwebClient]:
    with requests.Session() as session:
        session.headers.update(served.headers["viewer"])
        yield DICOMwebClient(served.url, session=session)


def original(shared_data: Path) -> dict[str, Dataset]:
    return {str(one.SOPInstanceUID): one for one in map(dcmread, sorted((shared_data / MR).rglob("*.dcm")))}


@pytest.mark.shared_data
def test_studies_series_and_instances_are_found_with_their_attributes(
    client: DICOMwebClient, shared_data: Path
) -> None:
    files = original(shared_data)
    first = next(iter(files.values()))
    (study,) = client.search_for_studies(search_filters={"StudyInstanceUID": first.StudyInstanceUID})
    found = Dataset.from_json(study)
    for keyword in WANTED:
        assert found.get(keyword, None) == first.get(keyword, None) or not first.get(keyword), keyword
    assert (int(found.NumberOfStudyRelatedInstances), found.ModalitiesInStudy) == (len(files), first.Modality)
    (series,) = client.search_for_series(first.StudyInstanceUID)
    assert int(Dataset.from_json(series).NumberOfSeriesRelatedInstances) == len(files)
    listed = client.search_for_instances(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert {one["00080018"]["Value"][0] for one in listed} == set(files)
    pages = [client.search_for_instances(first.StudyInstanceUID, limit=4, offset=at) for at in range(0, len(files), 4)]
    assert [one["00080018"]["Value"][0] for page in pages for one in page] == [
        one["00080018"]["Value"][0] for one in listed
    ]


@pytest.mark.shared_data
def test_queries_match_as_the_standard_says(client: DICOMwebClient, shared_data: Path) -> None:
    first = next(iter(original(shared_data).values()))
    name, day = str(first.PatientName), str(first.StudyDate)

    def asked(**keys: str) -> bool:
        answers = client.search_for_studies(search_filters=keys)
        return first.StudyInstanceUID in {one["0020000D"]["Value"][0] for one in answers}

    assert asked(PatientName=f"{name[:3]}*")
    assert asked(PatientName=name.upper())
    assert asked(PatientName=f"?{name[1:]}")
    assert not asked(PatientName=name[:3])
    assert not asked(PatientName="%")
    assert asked(ModalitiesInStudy="MR")
    assert not asked(ModalitiesInStudy="US")
    assert asked(StudyInstanceUID=f"{first.StudyInstanceUID},1.2.3")
    if day:
        assert asked(StudyDate=day)
        assert asked(StudyDate=f"{day}-")
        assert asked(StudyDate=f"-{day}")
        assert not asked(StudyDate=f"-{int(day) - 1}")
    for wrong in ("studies?Nonsense=1", "studies?limit=x", "studies/1.2.3/metadata", "studies/1.2.3"):
        with pytest.raises(requests.HTTPError):
            client._http_get(f"{client.base_url}/{wrong}")


@pytest.mark.shared_data
def test_files_come_back_as_they_were_sent(client: DICOMwebClient, shared_data: Path) -> None:
    files = original(shared_data)
    first = next(iter(files.values()))
    series = client.retrieve_series(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert {str(one.SOPInstanceUID): one.PixelData for one in series} == {
        uid: one.PixelData for uid, one in files.items()
    }
    one = client.retrieve_instance(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    assert Dataset(one) == Dataset(first)


@pytest.mark.shared_data
def test_metadata_is_the_header(client: DICOMwebClient, shared_data: Path) -> None:
    files = original(shared_data)
    first = next(iter(files.values()))
    told = client.retrieve_series_metadata(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert len(told) == len(files)
    for one in told:
        uri = one.pop("7FE00010")["BulkDataURI"]
        one.pop("00083002")
        header = Dataset.from_json(one)
        whole = files[str(header.SOPInstanceUID)]
        assert client.retrieve_bulkdata(uri)[0] == whole.PixelData
        del whole.PixelData
        assert header == Dataset(whole)


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
def test_frames_of_every_transfer_syntax_are_what_others_decode(
    client: DICOMwebClient, shared_data: Path, tmp_path: Path
) -> None:
    syntaxes = set()
    for path in compressed(shared_data, tmp_path):
        whole = dcmread(path)
        uids = (whole.StudyInstanceUID, whole.SeriesInstanceUID, whole.SOPInstanceUID)
        answer = client._http_get(
            f"{client.base_url}/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}/frames/1",
            headers={"Accept": 'multipart/related; type="application/octet-stream"'},
        )
        raw = answer.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        expected = decoded(path, tmp_path)
        assert np.array_equal(np.frombuffer(raw, expected.dtype).reshape(expected.shape), expected), path.name
        syntaxes.add(str(whole.file_meta.TransferSyntaxUID))
        if whole.file_meta.TransferSyntaxUID.is_encapsulated:
            stored = client.retrieve_instance_frames(*uids, [1], media_types=(("*/*", "*"),))
            fragments = next(generate_frames(whole.PixelData, number_of_frames=int(whole.get("NumberOfFrames", 1))))
            assert stored[0] == fragments
    assert len(syntaxes) >= 3


def decoded(path: Path, folder: Path) -> np.ndarray:
    """The first frame: JPEG by dcmtk, all else by pydicom."""
    if str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID).startswith("1.2.840.10008.1.2.4.5") or (
        str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.4.70"
    ):
        plain = folder / f"{path.stem}.dcm"
        subprocess.run(["dcmdjpeg", str(path), str(plain)], check=True, capture_output=True, timeout=60)
        path = plain
    return pixel_array(dcmread(path), index=0)


@pytest.mark.shared_data
def test_one_bit_frames_of_a_segmentation_are_unpacked_right(client: DICOMwebClient, shared_data: Path) -> None:
    path = next(
        path
        for path in sorted((shared_data / SEG).rglob("*.dcm"))
        if path.stat().st_size < 2**21 and dcmread(path, stop_before_pixels=True).get("BitsAllocated") == 1
    )
    whole = dcmread(path)
    uids = (whole.StudyInstanceUID, whole.SeriesInstanceUID, whole.SOPInstanceUID)
    count = int(whole.NumberOfFrames)
    expected = pixel_array(whole).reshape(count, whole.Rows, whole.Columns)
    for number in {1, max(1, count // 2), count}:
        raw = client.retrieve_instance_frames(*uids, [number])[0]
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[: whole.Rows * whole.Columns]
        assert np.array_equal(bits.reshape(whole.Rows, whole.Columns), expected[number - 1])


@pytest.mark.shared_data
def test_pictures_keep_proportions_and_follow_the_window(served: Serving, shared_data: Path) -> None:
    first = next(iter(original(shared_data).values()))
    place = f"/studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"

    def picture(path: str, accept: str = "image/png") -> Image.Image:
        headers = {**served.headers["viewer"], "Accept": accept}
        answer = requests.get(served.url + path, headers=headers, timeout=30)
        answer.raise_for_status()
        assert answer.headers["Content-Type"] == accept
        return Image.open(io.BytesIO(answer.content))

    values = first.pixel_array.astype(float)
    centre, width = float(np.median(values)), 100.0
    shown = np.asarray(picture(f"{place}/rendered?window={centre},{width},linear-exact"))
    expected = np.clip((values - centre) / width + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 1
    small = picture(f"{place}/frames/1/rendered?viewport=50,500")
    assert small.size == (50, round(50 * first.Rows / first.Columns))
    assert max(picture(f"/studies/{first.StudyInstanceUID}/thumbnail", "image/jpeg").size) == 128
    for wrong in ("rendered?window=1", "rendered?viewport=a,b", "frames/99/rendered", "rendered?window=1,0"):
        with pytest.raises(requests.HTTPError) as caught:
            picture(f"{place}/{wrong}")
        assert 400 <= caught.value.response.status_code < 500
    with pytest.raises(requests.HTTPError, match="406"):
        picture(f"{place}/rendered", "video/mp4")


@pytest.mark.shared_data
def test_who_looked_is_in_the_audit_trail(served: Serving, client: DICOMwebClient, shared_data: Path) -> None:
    first = next(iter(original(shared_data).values()))
    client.retrieve_study_metadata(first.StudyInstanceUID)
    lines = [json.loads(line) for line in (served.node.root / "audit.jsonl").read_text().splitlines()]
    seen = [line for line in lines if line["event"]["meaning"] == "DICOM Instances Accessed"]
    assert {line["what"]["study"] for line in seen} >= {str(first.StudyInstanceUID)}
    assert any(line["event"]["meaning"] == "Query" for line in lines)


#: What a browser with OHIF 3.13.2 asked for when a study was found and opened (docs/ohif_picture.py --requests).
OHIF_SEARCH = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"
OHIF_SERIES = "includefield=00080021%2C00080031%2C0008103E%2C00200011"
OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"


@pytest.mark.shared_data
def test_what_ohif_asks_for_is_answered(served: Serving, shared_data: Path) -> None:
    first = next(iter(original(shared_data).values()))
    study, series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    with requests.Session() as session:
        session.headers.update(served.headers["viewer"])

        def ask(path: str, accept: str = "application/dicom+json") -> requests.Response:
            answer = session.get(f"{served.url}/{path}", headers={"Accept": accept}, timeout=30)
            assert answer.status_code == 200, (path, answer.status_code)
            return answer

        found = ask(f"studies?{OHIF_SEARCH}").json()
        assert study in {one["0020000D"]["Value"][0] for one in found}
        (found,) = ask(f"studies?{OHIF_SEARCH}&StudyInstanceUID={study}").json()
        assert {"00080061", "00100010", "00100020", "00201206", "00201208"} <= set(found)
        assert len(ask(f"studies?00100020={first.PatientID}&{OHIF_SEARCH}").json()) >= 1
        (listed,) = ask(f"studies/{study}/series?{OHIF_SERIES}").json()
        assert (listed["0020000E"]["Value"], listed["00080060"]["Value"]) == ([series], ["MR"])
        headers = ask(f"studies/{study}/series/{series}/metadata").json()
        assert {one["00080018"]["Value"][0] for one in headers} == set(original(shared_data))
        assert all({"00280010", "00200032", "00280030", "7FE00010"} <= set(one) for one in headers)
        path = f"studies/{study}/series/{series}/instances/{first.SOPInstanceUID}"
        assert first.PixelData in ask(f"{path}/frames/1", OHIF_FRAMES).content
        assert first.PixelData in ask(path, 'multipart/related; type="application/dicom"').content
        thumbnail = ask(f"{path}/thumbnail?accept=image/jpeg", "image/avif,image/webp,*/*;q=0.8").content
        assert Image.open(io.BytesIO(thumbnail)).format == "JPEG"

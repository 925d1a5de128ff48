"""De-identification against table E.1-1 as another project has it, against dciodvfy, and on real files."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dicomanonymizer import anonymize_dataset
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.deidentifying.cleaning import clean
from hounsfield.deidentifying.pseudonyms import Pseudonyms, read_key
from hounsfield.deidentifying.rules import Options
from hounsfield.errors import DomainRefused, NothingToRead, SettingsError
from hounsfield.usecases.deidentify import DeidentifyRequest, deidentify

SEG = "dicom-seg-sr"
KEY = Pseudonyms(bytes(range(32)))
CANARY = "Zebrafinch"
MR = Path("mr-hippocampus-msd") / "dicom-hcrop-study1"
#: One value by value representation, each with something that must not come through.
VALUES: dict[str, Any] = {
    **dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "PN", "UR"), CANARY),
    "AE": "ZEBRAFINCH",
    "CS": "ZEBRAFINCH",
    "AS": "043Y",
    "DA": "19811213",
    "TM": "131415.161718",
    "DT": "19811213131415",
    "UI": "1.2.826.0.1.99.1981",
    "DS": "8191.5",
    "IS": "81915",
    "US": 8191,
    "OB": b"Zebrafinch",
    "UN": b"Zebrafinch",
    "OW": b"Zebrafinch",
}
FORBIDDEN = ("zebrafinch", "19811213", "131415.161718", "1.2.826.0.1.99.1981", "8191.5", "81915", "043y")


def table() -> list[int]:
    """Every attribute of table E.1-1 with a tag of its own, as dicom-anonymizer has it."""
    name = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"
    tags = importlib.import_module(name).ALL_TAGS
    return [tag[0] << 16 | tag[1] for tag in tags if len(tag) == 2]


def filled() -> Dataset:
    """A data set with a canary in every attribute of the table; in its sequences, items of a few."""
    found = Dataset()
    for tag in table():
        try:
            vr = dictionary_VR(tag).split(" ")[0]
        except KeyError:
            vr = "UN"
        if tag >> 16 not in (0x0002, 0xFFFA, 0xFFFC, 0x5000, 0x6000):
            found.add_new(tag, vr, [person()] if vr == "SQ" else VALUES[vr])
    return found


def person() -> Dataset:
    """A few attributes that name somebody."""
    found = Dataset()
    found.PatientName, found.TextValue, found.InstitutionName = CANARY, CANARY, CANARY
    found.AcquisitionDate, found.CodeMeaning, found.ReferencedSOPInstanceUID = "19811213", CANARY, VALUES["UI"]
    return found


def nested(inner: Dataset, depth: int) -> Dataset:
    """``inner`` inside ``depth`` sequences that are kept."""
    for _ in range(depth):
        outer = person()
        outer.AnatomicRegionSequence = [inner]
        inner = outer
    return inner


def image(path: Path) -> Dataset:
    return dcmread(path)


def scan(shared_data: Path) -> list[Path]:
    return sorted((shared_data / MR).rglob("*.dcm"))


def raw(found: Dataset) -> bytes:
    stream = io.BytesIO()
    found.save_as(stream, implicit_vr=False, little_endian=True)
    return stream.getvalue()


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
def test_nothing_of_table_e_1_1_comes_through_however_deep(shared_data: Path) -> None:
    source = image(scan(shared_data)[0])
    geometry = source.ImagePositionPatient
    source.update(filled())
    source.SOPClassUID, source.BurnedInAnnotation = "1.2.840.10008.5.1.4.1.1.4", "NO"
    for keyword in ("ReferencedImageSequence", "SourceImageSequence", "PerFrameFunctionalGroupsSequence"):
        setattr(source, keyword, [nested(filled(), 4 if keyword.startswith("Per") else 0)])
    source.add_new(0x00091001, "LO", CANARY)
    source.add_new(0x60000022, "LO", CANARY)
    source.add_new(0x60003000, "OW", b"Zebrafinch")
    block = source.private_block(0x0019, "ZEBRAFINCH INC", create=True)
    block.add_new(1, "LO", CANARY)
    assert len(table()) > 450
    cleaned = clean(source, KEY, Options()).dataset
    content = raw(cleaned).lower()
    found = [word for word in FORBIDDEN if word.encode() in content]
    assert found == []
    assert cleaned.PixelData == source.PixelData
    assert cleaned.ImagePositionPatient == geometry
    assert not [element for element in cleaned if element.tag.is_private]
    assert cleaned.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in cleaned.DeidentificationMethodCodeSequence] == ["113100"]


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
def test_what_another_anonymizer_removes_or_changes_is_gone_here_too(shared_data: Path) -> None:
    names = ("ct_image.dcm", "dx_image.dcm", "liver.dcm")
    files = [scan(shared_data)[0], *(path for path in (shared_data / SEG).rglob("*.dcm") if path.name in names)]
    assert len(files) >= 3
    for path in files:
        ours, theirs, source = clean(image(path), KEY, Options(), pixels_checked=True).dataset, image(path), image(path)
        anonymize_dataset(theirs, delete_private_tags=True)
        for element in source:
            if element.tag not in theirs or theirs[element.tag].value != element.value:
                kept = ours.get(element.tag)
                same = kept is not None and kept.value == element.value and element.value not in (None, "", [])
                assert not same, element.keyword


@pytest.mark.shared_data
def test_identifiers_and_references_agree_over_files_and_runs(shared_data: Path, tmp_path: Path) -> None:
    request = DeidentifyRequest(shared_data / MR, tmp_path / "a", tmp_path / "key")
    first = deidentify(request)
    second = deidentify(DeidentifyRequest(shared_data / MR, tmp_path / "b", tmp_path / "key"))
    assert (first.written, first.people, first.refused) == (len(scan(shared_data)), 1, {})
    assert first == second
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    written = sorted((tmp_path / "a").rglob("*.dcm"))
    again = sorted((tmp_path / "b").rglob("*.dcm"))
    assert [path.relative_to(tmp_path / "a") for path in written] == [
        path.relative_to(tmp_path / "b") for path in again
    ]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    found = [dcmread(path) for path in written]
    assert len({one.SeriesInstanceUID for one in found}) == len({one.PatientID for one in found}) == 1
    assert {one.SOPInstanceUID for one in found} == {
        read_key(tmp_path / "key").uid(dcmread(path).SOPInstanceUID) for path in scan(shared_data)
    }
    other = deidentify(DeidentifyRequest(scan(shared_data)[0], tmp_path / "c", tmp_path / "another"))
    assert other.written == 1
    assert dcmread(next((tmp_path / "c").rglob("*.dcm"))).PatientID != found[0].PatientID
    with pytest.raises(SettingsError, match="lie with the data"):
        deidentify(DeidentifyRequest(shared_data / MR, tmp_path / "d", tmp_path / "d" / "key"))
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(SettingsError, match="others can read"):
        read_key(tmp_path / "key")


def errors(path: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [Options(), Options(True, True)])
def test_objects_are_no_less_valid_than_they_were(shared_data: Path, tmp_path: Path, options: Options) -> None:
    places = ("mr-hippocampus-msd", "ct-chest-lidc-idri-0001", "pet-qin-headneck", "dicom-tricky", "dicom-seg-sr")
    checked, refusals = 0, []
    for number, place in enumerate(places):
        kinds: set[str] = set()
        for path in sorted((shared_data / place).rglob("*.dcm")):
            sop_class = str(dcmread(path, stop_before_pixels=True).get("SOPClassUID", ""))
            if sop_class in kinds or path.stat().st_size > 2**21:
                continue
            kinds.add(sop_class)
            output = tmp_path / f"{number}-{len(kinds)}"
            request = DeidentifyRequest(path, output, tmp_path / "key", options, pixels_checked=True)
            try:
                deidentify(request)
            except NothingToRead as refused:
                refusals.append(refused.fact)
                continue
            (written,) = output.rglob("*.dcm")
            assert errors(written) <= errors(path), path
            assert dcmread(written).PixelData.rstrip(b"\0") == dcmread(path).PixelData.rstrip(b"\0")
            checked += 1
    assert checked >= 4
    assert all("only a person" in one or "damaged" in one for one in refusals)


@pytest.mark.shared_data
def test_options_keep_what_they_say_and_no_more(shared_data: Path) -> None:
    source = image(scan(shared_data)[0])
    source.PatientSex, source.PatientAge, source.PatientBirthDate, source.PatientWeight = "F", "093Y", "19200101", "60"
    source.StudyDate, source.SeriesDate, source.StudyTime = "20200229", "20200301", "101112"
    kept = clean(source, KEY, Options(patient_characteristics=True, modified_dates=True)).dataset
    assert (kept.PatientSex, kept.PatientAge, kept.PatientWeight) == ("F", "090Y", 60)
    assert not kept.PatientBirthDate
    assert kept.StudyTime == "101112"
    assert kept.StudyDate != "20200229"
    days = [int(one[6:]) - int(two[6:]) for one, two in ((kept.SeriesDate, kept.StudyDate),)]
    assert days[0] in (1, -27, -28, -29, -30)
    codes = [item.CodeValue for item in kept.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108"]
    assert kept.LongitudinalTemporalInformationModified == "MODIFIED"
    plain = clean(source, KEY, Options(keep_uids=True)).dataset
    assert plain.SOPInstanceUID == source.SOPInstanceUID
    assert "PatientAge" not in plain
    assert not plain.StudyDate


@pytest.mark.shared_data
def test_what_may_show_a_name_is_refused_until_somebody_has_looked(shared_data: Path) -> None:
    source = image(scan(shared_data)[0])
    source.BurnedInAnnotation = "YES"
    with pytest.raises(DomainRefused, match="written on its pixels"):
        clean(source, KEY, Options())
    assert clean(source, KEY, Options(), pixels_checked=True).dataset.PixelData == source.PixelData
    source.BurnedInAnnotation, source.SOPClassUID = "NO", "1.2.840.10008.5.1.4.1.1.6.1"
    with pytest.raises(DomainRefused, match="of this kind"):
        clean(source, KEY, Options())
    for report in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.11.1"):
        source.SOPClassUID = report
        with pytest.raises(DomainRefused, match="only a person"):
            clean(source, KEY, Options(), pixels_checked=True)
    source.SOPClassUID, source.BodyPartExamined = "1.2.840.10008.5.1.4.1.1.4", "BRAIN"
    assert any("face" in note for note in clean(source, KEY, Options()).warnings)


@pytest.mark.shared_data
def test_the_command_says_what_it_did_and_names_nobody(shared_data: Path, tmp_path: Path) -> None:
    words = ["deidentify", str(shared_data / MR), "-o", str(tmp_path / "out"), "--key", str(tmp_path / "key"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["written"] == len(scan(shared_data))
    assert str(image(scan(shared_data)[0]).PatientID) not in done.output

"""The table: what it reads, what it refuses, and that one error names all rows of a kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hounsfield.errors import InputError
from hounsfield.evaluation import identical_images, read_dataset

HEADER = "case_id,image,label,patient_id,split,sex\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(1, 5):
        (tmp_path / f"image{n}.nii").write_bytes(b"image" + bytes([n]))
        (tmp_path / f"label{n}.nii").write_bytes(b"label" + bytes([n]))
    return tmp_path


def table(folder: Path, *rows: str, header: str = HEADER, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def good_rows(count: int = 4) -> list[str]:
    return [f"c{n},image{n}.nii,label{n}.nii,p{n},{'train' if n < 3 else 'test'},F" for n in range(1, count + 1)]


def test_reads_csv_and_jsonl_alike(folder: Path) -> None:
    data = read_dataset(table(folder, *good_rows()))
    assert [case.id for case in data.cases] == ["c1", "c2", "c3", "c4"]
    assert data.cases[0].images == (("", folder / "image1.nii"),)
    assert data.cases[0].columns == {"sex": "F"}
    assert data.splits == ("test", "train")
    assert [case.id for case in data.part("test").cases] == ["c3", "c4"]
    names = HEADER.strip().split(",")
    lines = [json.dumps(dict(zip(names, row.split(","), strict=True))) for row in good_rows()]
    (folder / "table.jsonl").write_text("\n".join(lines))
    again = read_dataset(folder / "table.jsonl")
    assert again.cases == data.cases
    assert again.digest() == data.digest()


def test_semicolons_byte_order_mark_and_rows_without_names(folder: Path) -> None:
    path = folder / "excel.csv"
    path.write_bytes("image;label;patient_id\nimage1.nii;label1.nii;007\n".encode("utf-8-sig"))
    case = read_dataset(path).cases[0]
    assert (case.id, case.patient_id, case.split) == ("row-0001", "007", "")
    assert "007" not in repr(case)


def test_channels_and_annotators(folder: Path) -> None:
    path = table(
        folder,
        "image1.nii,image2.nii,,label1.nii,,label3.nii,p",
        header="image_t2,image_adc,label,annotator_2,annotator_3,annotator_10,patient_id\n",
    )
    case = read_dataset(path).cases[0]
    assert case.images == (("t2", folder / "image1.nii"), ("adc", folder / "image2.nii"))
    assert case.annotators == (folder / "label1.nii", folder / "label3.nii")
    assert case.label is None


def test_the_digest_follows_content_not_order_or_names(folder: Path) -> None:
    digest = read_dataset(table(folder, *good_rows())).digest()
    assert read_dataset(table(folder, *good_rows()[::-1])).digest() == digest
    (folder / "image1.nii").rename(folder / "renamed.nii")
    renamed = [row.replace("image1.nii", "renamed.nii") for row in good_rows()]
    assert read_dataset(table(folder, *renamed)).digest() == digest
    (folder / "label4.nii").write_bytes(b"other")
    assert read_dataset(table(folder, *renamed)).digest() != digest


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("imgae,label,patient_id", "image1.nii,label1.nii,p", "did you mean 'imgae'"),
        ("image,lable,Patient_ID", "image1.nii,label1.nii,p", "did you mean 'lable'"),
        ("image,label,patient_id", "gone.nii,label1.nii,p", "gone.nii is missing"),
        ("image,label,patient_id", "image1.nii,label1.nii,", "row 1 has no patient_id"),
        ("image,label,patient_id", "image1.nii,,p", "row 1 has no label"),
        ("image,label,patient_id", "image1.nii,label1.nii", "row 1 has 2 cells, the header has 3"),
        ("image,label,patient_id,image", "a,b,c,d", "occurs twice"),
        ("image,label,patient_id", "", "no rows"),
    ],
)
def test_one_clear_error(folder: Path, header: str, row: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_dataset(table(folder, row, header=header + "\n"))


def test_leaking_patients_are_named_by_row_all_at_once_and_never_by_their_id(folder: Path) -> None:
    rows = [row.replace("p3", "p1").replace("p4", "p2") for row in good_rows()]
    with pytest.raises(InputError, match=r"c1 in train, c3 in test.*c2 in train, c4 in test") as caught:
        read_dataset(table(folder, *rows))
    assert "p1" not in str(caught.value)


def test_duplicates_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="rows 1, 2 have the same case_id"):
        read_dataset(table(folder, good_rows()[0], good_rows()[1].replace("c2", "c1")))
    with pytest.raises(InputError, match="rows 1, 2 have the same image"):
        read_dataset(table(folder, good_rows()[0], good_rows()[1].replace("image2", "image1")))


def test_the_same_scan_under_two_names_is_found(folder: Path) -> None:
    (folder / "image4.nii").write_bytes((folder / "image1.nii").read_bytes())
    assert identical_images(read_dataset(table(folder, *good_rows()))) == (("c1", "c4"),)


def test_a_split_file_replaces_the_column(folder: Path) -> None:
    path = table(folder, *good_rows())
    split = folder / "split.json"
    split.write_text(json.dumps({"seed": 3, "test": ["c1"], "train": ["c2", "c4"]}))
    data = read_dataset(path, split_file=split)
    assert {case.id: case.split for case in data.cases} == {"c1": "test", "c2": "train", "c4": "train"}
    for wrong, words in (
        ({"test": ["c9"]}, "no case is called 'c9'"),
        ({"test": ["c1"], "train": ["c1"]}, "two splits"),
        ([1], "not a split file"),
    ):
        split.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=words):
            read_dataset(path, split_file=split)


def test_what_is_no_table_is_refused(folder: Path) -> None:
    (folder / "latin.csv").write_bytes(b"image,label,patient_id\n\xe9,b,c\n")
    (folder / "broken.jsonl").write_text('{"image": ')
    (folder / "nested.jsonl").write_text('{"image": ["a"]}')
    (folder / "table.xlsx").write_bytes(b"PK")
    for name, words in (
        ("latin.csv", "UTF-8"),
        ("broken.jsonl", "line 1 is not JSON"),
        ("nested.jsonl", "plain values"),
        ("table.xlsx", "not a table"),
        ("absent.csv", "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_dataset(folder / name)


def test_an_unknown_part_names_those_there_are(folder: Path) -> None:
    with pytest.raises(InputError, match="'test', 'train'"):
        read_dataset(table(folder, *good_rows())).part("validation")

"""Routes and configuration: data with one meaning, refused with the place of the fault; closed by default."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hounsfield.cli.app import app
from hounsfield.department.configuration import NodeConfig, read_config
from hounsfield.department.routes import SeriesFacts, checks, matches, read_routes
from hounsfield.errors import SettingsError

ROUTE = '[[route]]\nname = "a"\nmodel = "hippocampus-mr"\n[route.match]\n'


def written(folder: Path, text: str, name: str = "routes.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (ROUTE + "modality = 'MR'", "route.0.match.modality"),
        (ROUTE + "colour = ['red']", "route.0.match.colour: extra inputs"),
        (ROUTE + "slices = {}", "at_least"),
        (ROUTE.replace("hippocampus-mr", "../../etc") + "", "route.0.model"),
        (ROUTE + "[route.match.when]\nexpr = '__import__'", "route.0.match.when"),
        (ROUTE + ROUTE, "two routes have one name"),
        ("route = 3", "route"),
        ("[[route", "not TOML"),
    ],
)
def test_a_route_that_is_wrong_is_refused_naming_the_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault) as caught:
        read_routes(written(tmp_path, text))
    assert caught.value.path == tmp_path / "routes.toml"


def test_conditions_are_all_looked_at_and_each_says_why(tmp_path: Path) -> None:
    text = 'modality = ["CT", "MR"]\nseries_description = ["*THORAX*"]\ncontrast = false\nslices = { at_least = 50 }\n'
    (route,) = read_routes(written(tmp_path, ROUTE + text))
    good = SeriesFacts(
        {"modality": ("CT",), "series_description": ("Thorax 1 mm",)}, {"slices": (80.0,)}, "volume", False
    )
    assert matches(route, good)
    bad = SeriesFacts({"modality": ("PT",)}, {"slices": (9.0,)}, "localizer", True)
    failing = {check.about: check.fact for check in checks(route, bad) if not check.holds}
    assert set(failing) == {"kind", "modality", "series_description", "contrast", "slices"}
    assert failing["series_description"].startswith("it is 'not stated'")
    assert "wanted is 50 to inf" in failing["slices"]


def test_patterns_are_no_regular_expressions(tmp_path: Path) -> None:
    (route,) = read_routes(written(tmp_path, ROUTE + 'series_description = ["a.c"]'))
    for description, hit in (("a.c", True), ("abc", False), ("A.C", True)):
        facts = SeriesFacts({"series_description": (description,)}, {}, "volume", False)
        assert matches(route, facts) is hit


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('host = "0.0.0.0"', "list the peers"),
        ('host = "0.0.0.0"\n[[peers]]\nae_title = "A"\nhost = "10.0.0.1"', r"give \[tls\]"),
        ('host = "not an address"', "address"),
        ("port = 70000", "port"),
        ('ae_title = "FAR TOO LONG A TITLE"', "ae_title"),
        ('[[destinations]]\nname = "p"', "ae_title, host and port"),
        ('[[destinations]]\nname = "p"\nkind = "stow"\nurl = "file:///etc/passwd"', "url"),
        ('passwort = "x"', "passwort"),
    ],
)
def test_a_configuration_that_would_open_the_node_or_is_wrong_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        read_config(written(tmp_path, text, "node.toml"))


def test_without_a_file_the_node_is_open_to_this_machine_only() -> None:
    config = NodeConfig()
    assert config.host == "127.0.0.1"
    assert config.admits("ANY", "127.0.0.1")
    assert not config.admits("ANY", "10.0.0.1")


def test_a_peer_must_have_both_the_title_and_the_address(tmp_path: Path) -> None:
    text = 'host = "0.0.0.0"\ninsecure_lan = true\n[[peers]]\nae_title = "CT1"\nhost = "10.0.0.0/24"\n'
    config = read_config(written(tmp_path, text, "node.toml"))
    assert config.admits("CT1", "10.0.0.7")
    assert not config.admits("CT1", "10.0.1.7")
    assert not config.admits("CT2", "10.0.0.7")
    assert not config.admits("ANY", "127.0.0.1")


@pytest.mark.shared_data
def test_the_verb_says_which_route_a_real_study_takes_and_why_not_the_others(shared_data: Path, tmp_path: Path) -> None:
    other = '[[route]]\nname = "thorax"\nmodel = "lungs"\n[route.match]\nmodality = ["CT"]\n'
    routes = written(tmp_path, ROUTE + 'modality = ["MR"]\n' + other)
    scan = shared_data / "mr-hippocampus-msd" / "dicom-hcrop-study1"
    done = CliRunner().invoke(app, ["routes", "test", str(scan), "--routes", str(routes)])
    assert done.exit_code == 0
    assert "-> a: hippocampus-mr" in done.stdout
    assert "no thorax: lungs" in done.stdout
    assert "modality: it is 'MR', wanted is 'CT'" in done.stdout
    routes.write_text(other)
    assert CliRunner().invoke(app, ["routes", "test", str(scan), "--routes", str(routes)]).exit_code == 1

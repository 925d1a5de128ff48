"""The gate on score tables whose truth is known: what is alike passes, what was damaged is caught."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, ttest_1samp
from score_tables import blurred, case, damaged, reference_cases

from hounsfield.compression import Differences, Gate, GateOutcome, GateRule, judge, judge_differences, parse_gate
from hounsfield.compression.gate_report import gate_markdown
from hounsfield.errors import SettingsError
from hounsfield.evaluation.scoring import ScoredSegment

BANDS = ["3-6 mm", "10-20 mm"]


def rule(*criteria: dict[str, object], **settings: object) -> GateRule:
    return parse_gate({"format": 1, "resamples": 2000, "criteria": list(criteria), **settings}, Path("GATE.toml"))


DICE = {"metric": "dice", "margin": 0.01, "by": ["sex"]}
LESIONS = {"metric": "lesion-sensitivity", "margin": 0.05, "size_bands": BANDS}


def verdicts(outcome: GateOutcome) -> dict[str, str]:
    return {f"{one.metric} {one.stratum}": one.judgement.verdict for one in outcome.strata}


def test_an_identical_model_passes_in_every_stratum() -> None:
    cases = reference_cases(120)
    outcome = judge(Gate(rule(DICE, LESIONS), cases, cases))
    assert outcome.verdict == "pass"
    assert set(verdicts(outcome)) == {
        *("dice all", "dice sex=F", "dice sex=M"),
        *("lesion-sensitivity all", "lesion-sensitivity 3-6 mm", "lesion-sensitivity 10-20 mm"),
    }
    assert outcome.changes == ()


def test_a_model_damaged_on_small_lesions_only_is_caught_there() -> None:
    cases = reference_cases(120)
    worse = damaged(cases, 0.3)
    outcome = judge(Gate(rule(DICE, LESIONS), cases, worse))
    assert outcome.verdict == "fail"
    told = verdicts(outcome)
    assert told["lesion-sensitivity 3-6 mm"] == "fail"
    assert {told["dice all"], told["lesion-sensitivity 10-20 mm"]} == {"pass"}
    hits = [sum(len(one.segments[0].lesions.matches) for one in some) for some in (cases, worse)]  # type: ignore[union-attr]
    assert len(outcome.changes) == hits[0] - hits[1] > 0
    assert {(one.change, one.band) for one in outcome.changes} == {("lost", "3-6 mm")}
    gained = judge(Gate(rule(LESIONS), worse, cases)).changes
    assert {one.change for one in gained} == {"gained"}
    assert [one.lesion for one in gained] == [one.lesion for one in outcome.changes]


def test_damage_is_caught_and_likeness_passes_in_95_percent_of_sets() -> None:
    small = rule({**LESIONS, "size_bands": BANDS[:1]}, resamples=1000)
    caught = alike = 0
    for seed in range(40):
        cases = reference_cases(80, seed)
        caught += judge(Gate(small, cases, damaged(cases, 0.3, seed + 1000))).verdict != "pass"
        alike += judge(Gate(small, cases, cases)).verdict == "pass"
    assert (caught >= 38, alike >= 38) == (True, True)


def test_too_few_patients_are_undecided_with_the_number_needed() -> None:
    cases = reference_cases(6)
    outcome = judge(Gate(rule(LESIONS), cases, cases))
    assert outcome.verdict == "undecided"
    first = outcome.strata[0].judgement
    assert "6 patients, the gate wants 20" in first.reason
    assert first.patients_needed is not None
    assert first.patients_needed >= 59, "no loss among 58 patients leaves 5 % possible"
    enough = reference_cases(first.patients_needed)
    assert judge(Gate(rule(LESIONS), enough, enough)).strata[0].judgement.verdict == "pass"


def test_an_interval_across_the_margin_is_undecided_and_the_number_is_that_of_the_formula() -> None:
    random = np.random.default_rng(3)
    gaps = random.normal(0, 0.05, 40)
    gaps -= gaps.mean() + 0.002
    names = [f"p{n}" for n in range(40)]
    found = judge_differences(Differences(gaps.tolist(), [1.0] * 40, names), 0.01, rule(DICE))
    assert found.verdict == "undecided"
    expected = math.ceil(((1.6448536 + 0.8416212) * gaps.std(ddof=1) / 0.008) ** 2)
    assert found.patients_needed == expected
    assert found.mean == pytest.approx(-0.002)


def test_the_bound_is_that_of_student_where_differences_are_normal() -> None:
    for patients in (12, 60):
        gaps = np.random.default_rng(patients).normal(0.001, 0.01, patients)
        names = [f"p{n}" for n in range(patients)]
        found = judge_differences(
            Differences(gaps.tolist(), [1.0] * patients, names), 0.01, rule(DICE, resamples=20000)
        )
        student = ttest_1samp(gaps, 0, alternative="greater").confidence_interval(0.95).low
        assert found.bound == pytest.approx(student, abs=0.0006)


@pytest.mark.parametrize(("patients", "losses"), [(30, 0), (60, 0), (60, 2), (120, 5)])
def test_the_bound_on_lost_lesions_is_near_the_exact_one_and_never_far_above(patients: int, losses: int) -> None:
    gaps = [-1.0] * losses + [0.0] * (patients - losses)
    names = [f"p{n}" for n in range(patients)]
    found = judge_differences(Differences(gaps, [1.0] * patients, names, True), 0.05, rule(LESIONS, resamples=20000))
    exact = -float(beta.ppf(0.95, losses + 1, patients - losses))
    assert exact - 0.03 < found.bound < exact + 0.012


def test_repeated_scans_of_a_patient_do_not_count_as_patients() -> None:
    once = Differences([0.0, -0.02, 0.01] * 5, [1.0] * 15, [f"p{n}" for n in range(15)])
    again = Differences(list(once.numerators) * 10, [1.0] * 150, list(once.patients) * 10)
    one, many = (judge_differences(some, 0.01, rule(DICE)) for some in (once, again))
    assert (one.patients, one.verdict) == (many.patients, many.verdict)
    assert one.bound == pytest.approx(many.bound)
    assert one.patient_sd == pytest.approx(many.patient_sd)
    assert (one.items, many.items) == (15, 150)


def test_a_worse_overlap_fails_and_fewer_false_lesions_are_better() -> None:
    cases = reference_cases(60)
    assert judge(Gate(rule(DICE), cases, blurred(cases, -0.02, 0.01))).verdict == "fail"
    assert judge(Gate(rule(DICE), cases, blurred(cases, 0.02, 0.01))).verdict == "pass"
    noisy = [case(n, [True], [15.0], 0.8, false=2) for n in range(20)]
    quiet = [case(n, [True], [15.0], 0.8, false=1) for n in range(20)]
    false = rule({"metric": "false-lesions", "margin": 0.5})
    assert judge(Gate(false, noisy, quiet)).strata[0].judgement.mean == 1.0
    assert judge(Gate(false, quiet, noisy)).verdict == "fail"


def test_what_cannot_be_judged_is_never_a_pass() -> None:
    cases = reference_cases(60)
    unknown = judge(Gate(rule({**DICE, "by": ["age_years", "sex"]}), cases, cases))
    assert unknown.verdict == "undecided"
    absent = judge(Gate(rule({**LESIONS, "size_bands": ["< 3 mm"]}), cases * 1, cases))
    assert verdicts(absent)["lesion-sensitivity < 3 mm"] == "undecided"
    assert judge(Gate(rule(DICE), [], [])).verdict == "undecided"
    lost = judge(Gate(rule(DICE), cases, cases[:-1]))
    assert (lost.verdict, lost.lost_cases) == ("fail", ("c0059",))


def test_the_page_says_the_verdict_first_and_names_no_patient() -> None:
    cases = reference_cases(40)
    outcome = judge(Gate(rule(DICE, LESIONS), cases, damaged(cases, 0.4)))
    page = gate_markdown("Gate <b>|", {"model": "a|b"}, rule(DICE, LESIONS), outcome)
    assert page.splitlines()[2].startswith("**FAILED.**")
    assert "a&#124;b" in page
    assert "<b>" not in page
    assert "|lost|c00" in page
    assert "secret" not in page + json.dumps(outcome.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"format": 1, "criterias": [DICE]}, "did you mean 'criteria'"),
        ({"format": 1, "criteria": [{**DICE, "margn": 1}]}, "did you mean 'margin'"),
        ({"format": 1, "criteria": [{**DICE, "metric": "dize"}]}, "did you mean 'dice'"),
        ({"format": 1, "criteria": [{**LESIONS, "size_bands": ["3-7 mm"]}]}, "did you mean '3-6 mm'"),
        ({"format": 1, "criteria": [{**DICE, "size_bands": BANDS}]}, "size_bands go with"),
        ({"format": 1, "criteria": [{**DICE, "margin": 1.0}]}, "lets everything pass"),
        ({"format": 1, "criteria": [{**DICE, "margin": 0}]}, "greater than 0"),
        ({"format": 1, "criteria": [{**DICE, "margin": float("nan")}]}, "criteria.0.margin"),
        ({"format": 1, "criteria": [{**DICE, "by": ["sex", "sex"]}]}, "names something twice"),
        ({"format": 1, "criteria": []}, "criteria"),
        ({"criteria": [DICE]}, "the gate has no 'format'"),
        ({"format": 1, "confidence": 0.5, "criteria": [DICE]}, "confidence"),
    ],
)
def test_mistakes_of_the_file_are_one_clear_line(table: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_gate(table, Path("GATE.toml"))
    assert said in str(caught.value)


def test_a_gate_that_does_not_fit_the_segments_is_refused() -> None:
    cases = reference_cases(3)
    with pytest.raises(SettingsError, match="segment 7"):
        judge(Gate(rule({**DICE, "segments": [7]}), cases, cases))
    organ = ScoredSegment(1, "Liver")
    from hounsfield.compression.gate import chosen_segments

    with pytest.raises(SettingsError, match="needs a segment that is a lesion"):
        chosen_segments(rule(LESIONS).criteria[0], [organ])

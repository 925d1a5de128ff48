"""The gate as a page of Markdown: the verdict first, then every stratum, then lesion by lesion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from hounsfield.compression.gate import GateOutcome, StratumResult
from hounsfield.compression.gate_file import GateRule

_UNITS: Final[Mapping[str, str]] = {"volume-error-abs": " ml", "false-lesions": " per case"}
_IN_WORDS: Final = {
    "pass": "**PASSED.** In every stratum the candidate is shown to be less than the margin worse.",
    "fail": "**FAILED.** In at least one stratum the candidate is worse by the margin or more, or it could not read "
    "a case that the reference read.",
    "undecided": "**UNDECIDED, which is not passed.** No stratum failed, but these cases are too few to show that the "
    "candidate is not worse.",
}


def gate_markdown(title: str, facts: Mapping[str, str], rule: GateRule, outcome: GateOutcome) -> str:
    """The whole page.

    Parameters
    ----------
    facts
        What stands in the table at the top: model, precisions, data.
    """
    return "\n".join(_lines(title, facts, rule, outcome)) + "\n"


def _lines(title: str, facts: Mapping[str, str], rule: GateRule, outcome: GateOutcome) -> Iterator[str]:
    yield from (f"# {_plain(title)}", "", _IN_WORDS[outcome.verdict], "", "||", "".join(("|", "---|" * 2)))
    yield from (f"|{_plain(name)}|{_plain(text)}|" for name, text in facts.items())
    yield from ("", "## Strata", "")
    yield "Positive differences mean that the candidate is better. The bound is one-sided"
    yield f"({rule.confidence:.0%} confidence, {rule.resamples} bootstrap draws of patients, seed {rule.seed})."
    yield from ("", "|metric|segment|stratum|items|patients|mean difference|bound|margin|verdict|", "|---" * 9 + "|")
    yield from (_row(one) for one in outcome.strata)
    undecided = [one for one in outcome.strata if one.judgement.verdict != "pass"]
    if undecided:
        yield from ("", "## What did not pass, and why", "")
        yield from (_why(one, rule) for one in undecided)
    yield from _lesions(outcome)
    if outcome.lost_cases:
        yield from ("", "## Cases that only the reference could read", "")
        yield from (f"- {_plain(name)}" for name in outcome.lost_cases)
    yield from ("", "Research use only. The verdict holds for this data set and these two precisions, nothing else.")


def _row(one: StratumResult) -> str:
    found, unit = one.judgement, _UNITS.get(one.metric, "")
    cells = (one.metric, one.segment.label, one.stratum, str(found.items), str(found.patients))
    figures = (_number(found.mean) + unit, _number(found.bound) + unit, f"{one.margin:g}{unit}", found.verdict)
    return "|" + "|".join(_plain(cell) for cell in (*cells, *figures)) + "|"


def _why(one: StratumResult, rule: GateRule) -> str:
    found = one.judgement
    place = f"- {one.metric}, {_plain(one.segment.label)}, {_plain(one.stratum)}: {found.verdict}; {found.reason}."
    if found.patients_needed is None:
        return place
    return f"{place} About {found.patients_needed} patients would be needed (power {rule.power:.0%})."


def _lesions(outcome: GateOutcome) -> Iterator[str]:
    """Nothing where no segment is a lesion; else the table, or the sentence that nothing changed."""
    if not any(one.segment.lesion for one in outcome.strata):
        return
    lost = sum(one.change == "lost" for one in outcome.changes)
    yield from ("", "## Lesion by lesion", "", f"{lost} lost, {len(outcome.changes) - lost} gained.")
    if outcome.changes:
        yield from ("", "|lesion|case|segment|size|band|", "|---" * 5 + "|")
    for one in outcome.changes:
        yield f"|{one.change}|{_plain(one.case_id)}|{one.segment}|{one.diameter_mm:.1f} mm|{one.band}|"


def _number(value: float) -> str:
    return f"{value:+.5f}" if math.isfinite(value) else "–"


def _plain(text: str) -> str:
    """Text of a table or a package as plain words of a Markdown cell."""
    cleaned = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return cleaned.replace("[", "&#91;").replace("`", "&#96;")

"""The answer for a record without a scan, as JSON and as one HTML page; neither names a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from hounsfield.findings import ClassScore, Findings
from hounsfield.writing.facts import RESEARCH_USE, RecordValue, RunFacts
from hounsfield.writing.files import same, write_checked
from hounsfield.writing.json_file import FORMAT, FORMAT_VERSION, class_score_data, package_data, run_data
from hounsfield.writing.report_style import CSS
from hounsfield.writing.report_tables import record_section, score_table


@dataclass(frozen=True, kw_only=True)
class RecordFacts(RunFacts):
    """How the answer came to be, and the record that was read."""

    seconds: float
    record: tuple[RecordValue, ...]


def write_record_result(facts: RecordFacts, scores: Sequence[ClassScore], folder: Path) -> dict[str, str]:
    """Write ``result.json`` and ``report.html``, read both back; kind to file name.

    Raises
    ------
    OutputError, ReadBackFailed
        See ``hounsfield.writing.files``.
    """
    data = _data(facts, scores)
    text, page = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", _page(facts, scores)
    for name, content in (("result.json", text), ("report.html", page)):

        def write(path: Path, content: str = content) -> None:
            path.write_text(content, encoding="utf-8")

        def check(path: Path, content: str = content) -> None:
            same("the text", path.read_text(encoding="utf-8") == content, path)

        write_checked(folder / name, name.partition(".")[2], write, check)
    return {"json": "result.json", "report": "report.html"}


def _data(facts: RecordFacts, scores: Sequence[ClassScore]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "notice": RESEARCH_USE,
        "warnings": list(facts.warnings),
        "record": {one.name: one.value for one in facts.record},
        "segments": [],
        "findings": [],
        "class_scores": [class_score_data(score) for score in scores],
        "package": package_data(facts),
        "run": {**run_data(facts), "figures": {"seconds": facts.seconds}},
    }


def _page(facts: RecordFacts, scores: Sequence[ClassScore]) -> str:
    warned = "".join(f"<li>{escape(one)}</li>" for one in facts.warnings)
    warnings = f'<div class="box warn"><h2>Warnings</h2><ul>{warned}</ul></div>' if warned else ""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(facts.package_title)} - hounsfield report</title><style>{CSS}</style></head><body>",
            f'<p class="ruo" role="note"><b>{escape(RESEARCH_USE)}</b> Computed without human review.</p><main>',
            f'<header><h1>{escape(facts.package_title)}</h1><p class="line">{escape(facts.package_id)} '
            f"{escape(facts.package_version)} · fp32 on {escape(facts.engine)} · "
            f"{facts.finished.strftime('%Y-%m-%d %H:%M')}</p><p>{escape(facts.intended_use)}</p></header>",
            warnings,
            f"<section><h2>Scores</h2>{score_table(Findings((), (), tuple(scores)))}</section>",
            record_section(facts.record),
            f"<section><h2>Model</h2><p>Package SHA-256 {escape(facts.package_digest)}<br>"
            f"{escape(facts.attribution)}</p></section>",
            f"</main><footer>{escape(RESEARCH_USE)}. hounsfield {escape(facts.software_version)}, "
            f"run {escape(facts.run_uid)}</footer></body></html>",
            "",
        ]
    )

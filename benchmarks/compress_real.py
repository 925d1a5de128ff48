"""Compress a shipped package under its gate, on real cases, and keep the verdict.

Calibration comes from the validation part of the example's split, the verdict from its test part. The
package that is installed is taken; its digest stands in the result. Several ``--to`` are judged against one fp32
reading of the test part.

    python benchmarks/compress_real.py lung-nodule-ct --to int8 --plain --save
    python benchmarks/compress_real.py lung-nodule-ct --to int8 --to bf16 --save
    python benchmarks/compress_real.py hippocampus-mr --to bf16 --save
    python benchmarks/compress_real.py hippocampus-mr --to int8 --engine onnxruntime --plain --save

``lung-nodule-ct`` wants its example's data prepared (``examples/lung-nodule-ct/prepare.py``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from gate_hippocampus import write_table

from hounsfield.cli.progress import ProgressBars
from hounsfield.usecases.compress import CompressRequest, CompressResult, compress
from hounsfield.usecases.job import Choices

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def table_of(name: str, shared: Path, folder: Path) -> tuple[Path, Path | None]:
    """The table of cases with all parts, and the split file that says them, if it is not in the table."""
    example = ROOT / "examples" / name
    if name == "hippocampus-mr":
        return write_table(shared / "mr-hippocampus-msd", folder), None
    return example / "data" / "cases.csv", example / "splits.json"


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", choices=["lung-nodule-ct", "hippocampus-mr"])
    parser.add_argument("--to", action="append", choices=["int8", "bf16", "fp16"], help="repeat it; int8 by default")
    parser.add_argument("--package", default="", help="another package than the installed one of that name")
    parser.add_argument("--quantiser", default="")
    parser.add_argument("--engine", default="")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, help="keep the new packages and all reports here")
    parser.add_argument("--save", action="store_true", help="keep the reports in benchmarks/results")
    args = parser.parse_args()
    reference = None
    with tempfile.TemporaryDirectory() as scratch:
        table, split = table_of(args.example, args.shared, Path(scratch))
        for kind in args.to or ["int8"]:
            request = CompressRequest(
                model=args.package or args.example,
                to=kind,
                gate=ROOT / "examples" / args.example / "gate.toml",
                output=(args.out or Path(scratch)) / kind,
                calibration=table,
                split_file=split,
                quantiser=args.quantiser,
                windows=args.windows,
                plain=args.plain,
                keep_failed=True,
                choices=Choices(engine=args.engine),
            )
            with ProgressBars(not sys.stderr.isatty()) as bars:
                result = compress(request, bars, reference)
            reference = result.judged.reference
            print(result.outputs["report"].read_text())
            print(result.outputs["gate"].read_text(), flush=True)
            if args.save:
                save(result, f"compress_{args.example}_{kind}", args)


def save(result: CompressResult, name: str, args: argparse.Namespace) -> None:
    """Keep the reports."""
    more = "".join(f"-{word}" for word in (args.engine, "plain" if args.plain else "") if word)
    pages = [result.outputs[kind].read_text() for kind in ("gate", "report")]
    (RESULTS / f"{name}{more}.md").write_text("\n".join(pages))
    shutil.copy(result.outputs["gate"].with_suffix(".json"), RESULTS / f"{name}{more}.json")


if __name__ == "__main__":
    main()

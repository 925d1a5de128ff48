# Every target does all of its own set-up. Without make: sh scripts/<target>
.PHONY: setup demo test lint bench faults docs

setup:            ## the whole environment: core, training, development tools
	sh scripts/setup full

demo:             ## a real model reads a real scan and writes DICOM SEG and SR
	sh scripts/demo

test:             ## lint, types, import contract, all tests
	sh scripts/test

lint:             ## ruff, mypy --strict, import-linter
	sh scripts/lint

bench:            ## the benchmarks, side by side with their peers (long)
	sh scripts/bench

faults:           ## the long fault programme: kills, malformed objects (hours)
	sh scripts/faults

docs:             ## regenerate the generated pages of docs/
	sh scripts/docs

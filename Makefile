# Every target does all of its own set-up. Without make: sh scripts/<target>
.PHONY: setup demo test lint bench faults soak docs

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

soak:             ## two hours of mixed load on a whole node; make soak MINUTES=30 for less
	sh scripts/soak $(MINUTES)

docs:             ## regenerate the generated pages of docs/
	sh scripts/docs

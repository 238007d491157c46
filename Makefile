# Targets for people and for .ci/run. Each sets up what it needs, given Python 3.11+ and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := $(VENV)/.ready-run
COMPILED := $(VENV)/.ready-kernels
BENCH := bench/.venv/bin/python
LM_EVAL := build/lm-eval/bin
RAY := build/ray/bin
AUDIT := build/audit/bin
# The contract as it was released last: what was promised then has to hold (docs/wire.md).
RELEASED := released-0.1.0.binpb
# The example for Node is tested where there is npm.
NODE := $(if $(shell command -v npm),examples/node/node_modules)

.PHONY: install generate demo web
.PHONY: test test-lm-eval test-packages test-python test-ray soak lint
.PHONY: ray docs docs-configuration pictures
.PHONY: bench bench-quick bench-plots bench-ray
.PHONY: audit sbom constraints clean

install: $(READY) ## The virtual environment, with everything pinned.

KERNELS := $(wildcard kernels/*.py kernels/*.toml kernels/nextok_kernels/src/*)

$(COMPILED): $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable kernels
	touch $@

# What the demo and the page need; the rest is for tests and documentation.
$(RUN): pyproject.toml constraints.txt $(COMPILED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  --editable '.[cli,server,export,web]'
	touch $@

$(READY): pyproject.toml constraints.txt $(COMPILED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  --editable '.[cli,bench,step,server,grammar,otel,export,web,dev]'
	touch $(RUN) $@

generate: $(READY) ## The stubs in client/nextok/v1, from protos.
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=client --pyi_out=client \
	  --grpc_python_out=client protos/nextok/v1/types.proto protos/nextok/v1/text_generation.proto

demo: $(RUN) ## The whole path on the bundled checkpoint: export, serve, the notebook's steps.
	$(BIN)/nextok demo

web: $(RUN) build/demo ## A page to see every step in, on the bundled checkpoint.
	$(BIN)/nextok web --artifact build/demo --open

build/demo: $(RUN) $(wildcard export/nextok_export/*.py export/nextok_export/demo/*)
	rm -rf build/demo && mkdir -p build
	$(BIN)/nextok-export demo build/demo --precision int8

examples/node/node_modules: examples/node/package-lock.json
	cd examples/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

WORKERS ?= 2

test: $(READY) $(NODE) ## Every test.
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0

test-packages: $(READY) build/test-model ## Wheels and sdist, installed into bare environments.
	rm -rf build/wheels
	$(BIN)/python -m build --outdir build/wheels . && \
	  $(BIN)/python -m build --wheel --outdir build/wheels kernels
	NEXTOK_WHEELS=build/wheels NEXTOK_TEST_MODEL=build/test-model \
	  $(BIN)/python -m pytest tests/packaging

MINUTES ?= 60

soak: $(READY) ## The long forms of the tests of reliability; see docs/reliability.md.
	$(BIN)/python -m pytest tests/system -o faulthandler_timeout=0 \
	  --soak $(MINUTES)

build/test-model: $(READY) $(wildcard export/nextok_export/*.py) tests/support/checkpoints.py
	rm -rf $@
	$(BIN)/python tests/support/checkpoints.py $@

test-python: build/test-model ## Client and server on another Python: PYTHON=python3.13, say.
	$(PYTHON) -m venv build/$(notdir $(PYTHON))
	build/$(notdir $(PYTHON))/bin/python -m pip install --quiet --constraint constraints.txt \
	  ./kernels '.[cli,bench,step,server,grammar,otel,web]' \
	  h2 hypothesis jsonschema pytest pytest-asyncio safetensors trustme
	NEXTOK_TEST_MODEL=build/test-model build/$(notdir $(PYTHON))/bin/python -m pytest \
	  tests/client tests/server

test-lm-eval: ## nextok beside the hf model of lm-evaluation-harness, in an environment of its own.
	test -x $(LM_EVAL)/python || $(PYTHON) -m venv build/lm-eval
	$(LM_EVAL)/python -m pip install --quiet --editable kernels \
	  --editable '.[cli,server,export,lm-eval]' accelerate peft pytest pytest-asyncio hypothesis trustme
	$(LM_EVAL)/python -m pytest tests/harness

$(RAY)/nextok-ray: pyproject.toml
	test -x $(RAY)/python || $(PYTHON) -m venv build/ray
	$(RAY)/python -m pip install --quiet --constraint constraints.txt --editable kernels \
	  --editable '.[cli,server,ray]' hypothesis pytest pytest-asyncio safetensors

ray: $(RAY)/nextok-ray build/demo ## Two replicas of the bundled model behind Ray Serve's proxy, port 50051.
	$(RAY)/nextok-ray build/demo --replicas 2 --insecure

bench-ray: $(RAY)/nextok-ray build/demo ## What Ray Serve costs a token; some 5 minutes.
	$(RAY)/python -m bench.ray_overhead build/demo

test-ray: $(RAY)/nextok-ray build/test-model ## Replicas behind Ray Serve's proxy.
	NEXTOK_TEST_MODEL=build/test-model $(RAY)/python -m pytest tests/ray_serve

docs: $(READY) ## The documentation's site, in build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: $(READY) ## Style, types, and the wire contract.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code && \
	  ../$(BIN)/buf breaking --against $(RELEASED)

$(BENCH):
	$(PYTHON) -m venv bench/.venv

bench: $(BENCH) ## nextok and its peers in alternation, under 40 minutes; see bench/README.md.
	since=$$(date +%s) && $(BENCH) bench/install.py && \
	  $(BENCH) -m bench --minutes 37 --since $$since --json bench/results.json
	$(BENCH) -m bench.plots bench/results.json bench/plots

bench-quick: $(BENCH) ## One stream against optimum, 32 streams against one; about 3 minutes.
	$(BENCH) bench/install.py --base
	$(BENCH) -m bench --quick

bench-plots: $(BENCH) ## The plots again, from bench/results.json.
	$(BENCH) -m bench.plots bench/results.json bench/plots

pictures: $(READY) build/demo ## Pictures of the terminal, the notebook and the page; needs Chromium.
	$(BIN)/python docs/make_pictures.py
	$(BIN)/python docs/make_page_pictures.py build/demo

$(AUDIT)/pip-audit:
	test -x $(AUDIT)/python || $(PYTHON) -m venv build/audit
	$(AUDIT)/python -m pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1

audit: $(AUDIT)/pip-audit ## Known vulnerabilities of what is pinned, by PyPI's own database.
	$(AUDIT)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

sbom: $(READY) $(AUDIT)/pip-audit ## What is installed, as CycloneDX: build/sbom.json.
	$(AUDIT)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file build/sbom.json $(BIN)/python

docs-configuration: $(READY) ## docs/configuration.md, from the server's settings.
	$(BIN)/python docs/make_configuration.py

constraints: $(READY) ## Pins what is installed now.
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) bench/.venv build dist kernels/nextok_kernels/*.so

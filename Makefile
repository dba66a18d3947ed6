# `make digits`: a trained digit classifier. `make test`: the tests. Both install what is missing
# into $(VENV): the virtual environment that is active, or .venv, which is made if need be.

PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.moka-installed
DIGITS = examples/digits
DATA = $(DIGITS)/digits_train_lmdb $(DIGITS)/digits_test_lmdb
PB2 = src/moka/schema/caffe_pb2.py
MODEL = $(DIGITS)/lenet_iter_1500.caffemodel

.PHONY: install digits test lint format bench bench-parts bench-gpu fuzz agree mutants docs hashes sbom models \
	proto clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

digits: $(INSTALLED) $(MODEL)
	$(BIN)/caffe test --model=$(DIGITS)/lenet_train_test.prototxt --weights=$(MODEL) --iterations=6
	$(BIN)/python $(DIGITS)/classify.py

$(MODEL): $(DATA) $(DIGITS)/lenet_solver.prototxt $(DIGITS)/lenet_train_test.prototxt
	$(BIN)/caffe train --solver=$(DIGITS)/lenet_solver.prototxt

$(DATA) &: $(DIGITS)/make_data.py | $(INSTALLED)
	$(BIN)/python $(DIGITS)/make_data.py

# Compiled modules are kept even where the environment says not to: hundreds of processes are started.
test: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/all.py
	$(BIN)/python benchmarks/busy.py

bench-parts: $(INSTALLED)
	$(BIN)/python benchmarks/lenet_training.py
	$(BIN)/python benchmarks/update.py
	$(BIN)/python benchmarks/data_feed.py
	$(BIN)/python benchmarks/pycaffe_forward.py

# Needs a GPU; under ten minutes.
bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu_training.py

# 1,000,000 changed files for the readers: INPUTS=N makes it another number. Coverage guides it where
# atheris is installed (pip install atheris; a wheel for CPython up to 3.13).
INPUTS ?= 1000000
fuzz: $(INSTALLED)
	$(BIN)/python fuzz/run.py --inputs $(INPUTS)

# 200 random nets, each run in all ways that Moka has: NETS=N makes it another number. A second or two
# for each.
NETS ?= 200
agree: $(INSTALLED)
	$(BIN)/python fuzz/agree.py --nets $(NETS)

# Small mistakes in a copy of the source: does a test notice each? Half an hour for 100 of them, and
# as long before for the record of which tests execute which lines.
MUTANTS ?= 100
SEED ?= 1
MUTATED ?= graph solver engine weights data layers/detection
mutants: $(INSTALLED)
	mkdir -p build
	$(BIN)/python benchmarks/line_tests.py build/line_tests.json \
		$(addprefix tests/,graph net solver engine weights data layers)
	$(BIN)/python benchmarks/mutants.py --record build/line_tests.json \
		--results build/mutants_$(SEED).jsonl --count $(MUTANTS) --seed $(SEED) \
		$(addprefix src/moka/,$(MUTATED))

docs: $(INSTALLED)
	$(BIN)/python docs/make_pages.py
	$(BIN)/python docs/floors.py
	$(BIN)/python release/licenses.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# The checksums of all that the lock names, from pypi.org.
hashes: $(INSTALLED)
	$(BIN)/python release/lock_hashes.py

# The packages of an installation with this Python, in the lock's versions, as a CycloneDX list.
SBOM ?= moka-caffe.cdx.json
sbom:
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/pip install -q --constraint requirements.lock .
	$(PYTHON) -m venv .venv-cyclonedx
	.venv-cyclonedx/bin/pip install -q cyclonedx-bom
	.venv-cyclonedx/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--output-file $(SBOM) .venv-sbom/bin/python
	rm -rf .venv-sbom .venv-cyclonedx

models: $(INSTALLED)
	$(BIN)/python -m moka.models

# The compiled schema: made with an old compiler, so that it works with every protobuf from 4.25 on.
# Its messages live in a descriptor pool of their own, since the pool that all modules share takes
# one caffe.proto only, and many programs bring their own caffe_pb2. Pickles name pycaffe's module.
proto:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/pip install -q grpcio-tools==1.62.3 setuptools
	.venv-proto/bin/python -m grpc_tools.protoc -I src/moka/schema --python_out=src/moka/schema \
		--pyi_out=src/moka/schema src/moka/schema/caffe.proto
	sed -i.bak -e "s/_descriptor_pool.Default()/_descriptor_pool.DescriptorPool()/" \
		-e "s/'caffe_pb2', _globals/'caffe.proto.caffe_pb2', _globals/" $(PB2)
	rm $(PB2).bak
	rm -rf .venv-proto

clean:
	rm -rf $(DIGITS)/digits_*_lmdb $(DIGITS)/lenet_iter_*

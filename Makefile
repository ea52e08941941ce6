# Every target works on a machine that has only git, make and Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install check test mutants chaos lake-chaos soak demo demo-stop bench proto jars clean

install: .venv/.installed

# The lock is the whole truth: exact versions, hashes, nothing resolved at install time.
.venv/.installed: requirements-dev.txt pyproject.toml connectors/outbox/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . -e connectors/outbox
	touch $@

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint

test: install
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/acceptance tests/integration tests/unit

# Lines on which a promise hangs, broken one by one in a copy; ONLY="words" chooses those that hold them.
mutants: install
	$(BIN)/python tests/mutants.py $(if $(ONLY),"$(ONLY)")

# Real parts broken by a schedule that is a function of SEED, then a ledger; BROKERS=3 kills partition leaders.
chaos: install
	PYTHONPATH=.:tests:tests/acceptance $(BIN)/python -m chaos $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(BROKERS),--brokers $(BROKERS))

# Sinks and compactors of two lakes, in a folder and in an object store, killed by a schedule that SEED decides.
lake-chaos: install
	PYTHONPATH=.:tests:tests/acceptance $(BIN)/python -m lake_chaos $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(SEED),--seed $(SEED))

# The chaos, outages and backlogs of the tests, at the length that counts.
soak: install
	$(MAKE) chaos MINUTES=60 BROKERS=3
	$(MAKE) lake-chaos SECONDS=300
	PYTHONHASHSEED=0 WAYBILL_SCHEDULES=200000 $(BIN)/pytest tests/unit/test_engine_model.py
	WAYBILL_OUTAGE=600 $(BIN)/pytest tests/acceptance/test_outages.py --timeout=900
	WAYBILL_BACKLOG=50000 WAYBILL_MEMORY=64MiB WAYBILL_LOAD=300 $(BIN)/pytest tests/acceptance/test_memory.py --timeout=2400
	for partitions in 16 500; do WAYBILL_LAKE_PARTITIONS=$$partitions WAYBILL_LAKE_BACKLOG=410000 \
		$(BIN)/pytest tests/integration/test_lake_memory.py || exit 1; done
	WAYBILL_EXAMPLES_FACTOR=50 $(BIN)/pytest tests/unit/test_lake_torture.py -k refuses --timeout=7200
	WAYBILL_EXAMPLES_FACTOR=10 $(BIN)/pytest tests/unit/test_fuzz_records.py tests/unit/test_fuzz_config.py \
		tests/unit/test_admission_sequences.py tests/unit/test_simulated_outages.py --timeout=900

# KEEP=1 leaves everything running and says what to try; demo-stop ends it.
demo: install
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

demo-stop: install
	$(BIN)/python -m examples.demo --stop

# Descriptors and stubs are committed; only a change under proto/ needs this.  The generator has a method that a service
# leaves out raise an error behind its status, which gRPC logs with a traceback: it just answers.
proto: install .venv-proto/.installed
	cd proto && ../$(BIN)/buf build --as-file-descriptor-set --exclude-source-info -o descriptors.binpb
	$(PROTOC) --python_out=connectors/outbox/src --pyi_out=connectors/outbox/src waybill/v1/options.proto
	$(PROTOC) --python_out=examples/stubs --pyi_out=examples/stubs $(EXAMPLE_PROTOS)
	.venv-proto/bin/python -m grpc_tools.protoc --descriptor_set_in=proto/descriptors.binpb --grpc_python_out=examples/stubs logistics/v1/events_api.proto
	sed -i "s/raise NotImplementedError(/context.abort(grpc.StatusCode.UNIMPLEMENTED, /" examples/stubs/logistics/v1/events_api_pb2_grpc.py

PROTOC := .venv-proto/bin/protoc --descriptor_set_in=proto/descriptors.binpb
EXAMPLE_PROTOS := $(patsubst proto/%,%,$(wildcard proto/logistics/v1/*.proto))

.venv-proto/.installed: requirements-proto.txt
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-proto.txt
	touch $@

# Resolve the local stack's jars anew; only a change of connectors/local/jars.py needs this.
jars: install
	$(BIN)/python -m connectors.local.jars

bench: install
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv .venv-proto .waybill

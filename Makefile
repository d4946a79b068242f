# Every target does its own set-up; nothing needs to run beforehand.
#   make demo         the whole loop on this machine, prints the URL
#   make demo-check   the same, drives it both ways, stops everything, exits 0 or not
#   make test         every tier
SHELL       := /bin/bash
GO          ?= go
PYTHON3     ?= python3
VENV        := $(CURDIR)/.venv
PY          := $(VENV)/bin/python
FLOWER      := $(CURDIR)/.venv-flower
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -X main.version=$(VERSION)
FUZZTIME    ?= 10s

export DFWS_PYTHON  ?= $(PY)
export DFWS_FLOWER  ?= $(FLOWER)/bin/python

.DEFAULT_GOAL := help
.PHONY: help build demo demo-check test lint golangci vuln unit race redis python integration celerysuite celerysuite-go suiteworker \
  fuzz capture bench bench-gateway bench-worker clean system databases

help: ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## bin/dfws and bin/demo-worker
	$(GO) build -ldflags "$(LDFLAGS)" -o bin/ ./cmd/...

demo: system build $(VENV)/.ready ## Django, gateway, Celery worker and Go worker; prints the URL; Ctrl-C stops them
	$(GO) run ./integration/demo

demo-check: system build $(VENV)/.ready ## the demo, driven both ways and stopped; exit status 0 when everything arrived
	$(GO) run ./integration/demo -check

test: lint unit race python integration celerysuite-go ## every tier

lint: $(VENV)/.ready ## gofmt, go vet, staticcheck, ruff, mypy
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags integration ./integration/...
	cd integration/bench/peers && $(GO) vet ./...
	$(GO) run $(STATICCHECK) -tags integration ./...
	$(VENV)/bin/ruff check python-shim integration/project integration/celerysuite
	$(VENV)/bin/ruff format --check python-shim integration/celerysuite
	cd python-shim && $(VENV)/bin/mypy

golangci: ## golangci-lint with .golangci.yml (compiles it first: several minutes)
	$(GO) run $(GOLANGCI) run ./...

vuln: ## known vulnerabilities of the dependencies (needs vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

unit: ## Go tests without Redis
	$(GO) test -short ./...

race: system databases $(VENV)/.ready ## all Go tests with real servers (Redis, databases) and real Python, under the race detector
	DFWS_REQUIRE=redis,python,postgresql,mariadb,memcached $(GO) test -race ./...

redis: system databases $(VENV)/.ready ## the same without the race detector
	DFWS_REQUIRE=redis,python,postgresql,mariadb,memcached $(GO) test ./...

python: system $(VENV)/.ready ## the Django app's own tests
	cd python-shim && DFWS_REQUIRE=redis $(VENV)/bin/pytest -q

integration: system build $(VENV)/.ready $(FLOWER)/.ready ## real Django, Celery, Flower, Redis and Chromium
	DFWS_REQUIRE=redis,python,chromium,flower $(GO) test -tags integration -count=1 -timeout 30m ./integration/...

celerysuite: suiteworker ## Celery's own integration tests with a Go worker in place of Celery's, beside Celery's (10 min)
	$(GO) run ./integration/celerysuite

celerysuite-go: suiteworker ## the same with the Go worker alone
	$(GO) run ./integration/celerysuite -side go

suiteworker: system
	integration/celerysuite/setup.sh .build/celerysuite
	$(GO) build -o bin/ ./integration/celerysuite/suiteworker

fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

capture: system $(VENV)/.ready ## record the goldens again from real Python
	integration/capture/run.sh

bench: bench-gateway bench-worker ## every benchmark

bench-gateway: system build $(VENV)/.ready ## gateway beside daphne and uvicorn: connects, memory, broadcast, intake, there and back (8 minutes)
	$(GO) run ./integration/bench gateway

bench-worker: system $(VENV)/.ready ## Go worker beside Celery, asynq and gocelery: throughput, publishing, memory, latency (8 minutes)
	$(GO) run ./integration/bench worker

system:
	@integration/setup.sh system

databases:
	@integration/setup.sh databases

$(VENV)/.ready: integration/setup.sh integration/project/requirements.txt python-shim/pyproject.toml
	integration/setup.sh venv $(VENV)

$(FLOWER)/.ready: integration/setup.sh integration/flower-requirements.txt
	integration/setup.sh flower $(FLOWER)

clean: ## what the targets above made
	rm -rf bin .venv .venv-flower .build

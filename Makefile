VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The race detector needs a C compiler: RACE=1 demands it, RACE= leaves it out.
RACE ?= $(if $(shell command -v $(firstword $(shell go env CC))),1)
PKG ?= ./...
FUZZTIME ?= 20s

.PHONY: help dev build test interop browser check generate prove bench benchmarks fuzz clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

dev: build ## run everything in one process, with demo users (ARGS="--ports random")
	bin/gatehouse dev $(ARGS)

build: ## build bin/gatehouse, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gatehouse ./cmd/gatehouse

test: ## run all tests, or those of PKG, on SQLite and PostgreSQL
	scripts/with-postgres.sh go test $(if $(RACE),-race) $(TESTFLAGS) $(PKG)

interop: ## run with other makers' programs: Dex, oidc-provider, nats.js, nats.py
	scripts/interop.sh

browser: ## run the browser example, and calls of web pages, in a headless Chromium
	scripts/browser.sh

check: ## formatting, vet, staticcheck, go.mod, import rules, generated files
	scripts/check.sh

generate: ## write the generated files anew
	go generate ./...

prove: ## run the long forms of the tests that have two, and record the result
	scripts/prove.sh

bench: build ## measure Gatehouse against a plain service (ARGS="-rounds 5 -- -burst 2000")
	bench/build.sh
	bench/bin/compare $(ARGS)

benchmarks: build ## measure every row of the table of logins in docs/benchmarks.md and write it (QUICK=1: small counts, written nowhere)
	scripts/bench.sh

fuzz: ## run each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

clean: ## remove what was built
	rm -rf bin bench/bin interop/node_modules examples/browser/node_modules examples/browser/page/nats.js

# make demo, make test: nothing to install or edit before. make help lists the rest.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
LDFLAGS  = -s -w -X main.version=$(VERSION)
# Static, and without grpc's tracing, which links x/net/trace and html/template.
BUILD    = CGO_ENABLED=0 $(GO) build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)'
TOOL     = $(GO) tool -modfile=.ci/tools/go.mod

.PHONY: help demo test test-compat build lint fmt bench generate clean FORCE
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## the main job on the emulator: a minute to watch
	@$(GO) run ./cmd/demo --refresher bin/iam-token-refresher --emulator bin/iam-emulator

test: ## everything, with the race detector
	$(GO) test -race -timeout 4m ./...

test-compat: build ## the cloud's first Go SDK on the metadata listener; it takes minutes to compile
	cd .ci/compat && $(GO) test ./...

build: bin/iam-token-refresher bin/iam-emulator ## static, stripped binaries in bin/

bin/%: FORCE
	@$(BUILD) -o $@ ./cmd/$*

lint: ## gofumpt, vet, staticcheck, the arrows between packages
	@files=$$($(TOOL) gofumpt -l cmd refresher sink .ci/compat); [ -z "$$files" ] || { echo "not formatted (make fmt):"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) test -run 'Arrows|Domain|DoesNotContain' ./refresher/daemon

fmt: ## format the code
	$(TOOL) gofumpt -w cmd refresher sink .ci/compat

bench: build ## the figures: binary, memory, wake-ups, time to the first token, 1,000 tokens
	cd .ci/bench && $(GO) run . --refresher ../../bin/iam-token-refresher --emulator ../../bin/iam-emulator

generate: ## the configuration reference in README.md, from the option structs
	.ci/readme

clean: ## remove what was built
	rm -rf bin dist

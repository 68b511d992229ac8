# make demo, make test: nothing to install or edit before. make help lists the rest.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
LDFLAGS  = -s -w -X main.version=$(VERSION)
# Static, and without grpc's tracing, which links x/net/trace and html/template.
# The same flags wherever it is built: other ones compile all it depends on anew.
FLAGS    = -trimpath -tags grpcnotrace
BUILD    = CGO_ENABLED=0 $(GO) build $(FLAGS) -ldflags '$(LDFLAGS)'
TOOL     = $(GO) tool -modfile=.ci/tools/go.mod

.PHONY: help demo test test-compat simulate simulate-fleet soak fuzz build lint fmt bench generate clean FORCE
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: build ## the main job on the emulator: a minute to watch
	@CGO_ENABLED=0 $(GO) run $(FLAGS) ./cmd/demo --refresher bin/iam-token-refresher --emulator bin/iam-emulator

test: ## everything, with the race detector
	$(GO) test -race -vet=off -ldflags=-w -timeout 6m ./...

test-compat: build ## the cloud's first Go SDK on the metadata listener; it takes minutes to compile
	cd .ci/compat && $(GO) test ./...

build: bin/iam-token-refresher bin/iam-emulator ## static, stripped binaries in bin/

bin/%: FORCE
	@$(BUILD) -o $@ ./cmd/$*

SEEDS ?= 100
simulate: ## SEEDS=1000: 30 days of faults of one daemon in a second, for each seed
	cd refresher/simulation && $(GO) test -run TestSimulation -timeout 30m -seeds $(SEEDS)

simulate-fleet: ## ten thousand sidecars of one rollout: what they ask of the cloud together
	$(GO) test ./refresher/simulation/fleet -count=1 -timeout 30m -v -sidecars 10000

READS ?= 10000000
KILLS ?= 500
soak: ## READS=10000000 KILLS=500: readers beside a writer that never rests, a daemon that is killed again and again, one that cannot watch files, any two faults at once
	$(GO) test -count=1 -timeout 2h -run TestReadersInOtherProcesses -v ./sink -reads $(READS)
	$(GO) test -count=1 -timeout 2h -run 'TestDaemonThatIsKilled|TestDaemonThatCannotWatch' -v ./cmd/iam-token-refresher -kills $(KILLS) -minutes
	$(GO) test -count=1 -timeout 2h -run TestPairsOfFaults -v ./cmd/iam-token-refresher -pairs 0

# Each target keeps what it finds under testdata/fuzz, where it is a test from then on.
T ?= 30s
fuzz: ## T=30s: each fuzz target in turn for this long
	@for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
		for target in $$(cd $$dir && $(GO) test -list '^Fuzz' . | grep '^Fuzz'); do \
			echo "$$dir $$target" && (cd $$dir && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(T) .) || exit 1; \
		done; done

lint: ## gofumpt, vet, staticcheck, the arrows between packages
	@files=$$($(TOOL) gofumpt -l cmd refresher sink systemd kubernetes .ci/compat); [ -z "$$files" ] || { echo "not formatted (make fmt):"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) test -run 'Arrows|Domain|DoesNotContain' ./refresher/daemon

fmt: ## format the code
	$(TOOL) gofumpt -w cmd refresher sink systemd kubernetes .ci/compat

bench: build ## the figures: binary, memory, wake-ups, time to the first token, 1,000 waiters, 1,000 tokens
	cd .ci/bench && $(GO) run . --refresher ../../bin/iam-token-refresher --emulator ../../bin/iam-emulator

generate: ## the configuration reference in README.md, from the option structs
	.ci/readme

clean: ## remove what was built
	rm -rf bin dist

# Installing, and the packages that are made of what it leaves.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DATADIR     = $(PREFIX)/share
ZSHDIR     ?= $(DATADIR)/zsh/site-functions
DOCDIR      = $(DATADIR)/doc/iam-token-refresher
INTO        = install -D -m

.PHONY: man install deb rpm test-systemd
man: build ## the manual pages in dist/man, from the help and the configuration reference
	@$(GO) run ./systemd/man --program bin/iam-token-refresher --dir dist/man

install: man ## into DESTDIR: program, units, manual pages, completions, a configuration; starts nothing
	@$(INTO) 755 bin/iam-token-refresher $(DESTDIR)$(PREFIX)/bin/iam-token-refresher
	@ln -sfn iam-token-refresher $(DESTDIR)$(PREFIX)/bin/docker-credential-iam-token-refresher
	@for unit in service socket; do \
		$(INTO) 644 systemd/iam-token-refresher.$$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/iam-token-refresher.$$unit && \
		sed -i 's,/usr/bin/iam-token-refresher,$(PREFIX)/bin/iam-token-refresher,; s,/etc/iam-token-refresher/,$(SYSCONFDIR)/iam-token-refresher/,' \
			$(DESTDIR)$(PREFIX)/lib/systemd/system/iam-token-refresher.$$unit || exit 1; done
	@$(INTO) 644 systemd/iam-token-refresher.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/iam-token-refresher.conf
	@$(INTO) 644 systemd/iam-token-refresher.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/iam-token-refresher.conf
	@[ -e $(DESTDIR)$(SYSCONFDIR)/iam-token-refresher/config.yaml ] || \
		$(INTO) 644 systemd/config.yaml $(DESTDIR)$(SYSCONFDIR)/iam-token-refresher/config.yaml
	@for page in iam-token-refresher.1 iam-token-refresher.yaml.5; do \
		$(INTO) 644 dist/man/$$page $(DESTDIR)$(DATADIR)/man/man$${page##*.}/$$page && \
		gzip -9nf $(DESTDIR)$(DATADIR)/man/man$${page##*.}/$$page || exit 1; done
	@mkdir -p $(DESTDIR)$(DATADIR)/bash-completion/completions $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(DATADIR)/fish/vendor_completions.d
	@bin/iam-token-refresher completion bash >$(DESTDIR)$(DATADIR)/bash-completion/completions/iam-token-refresher
	@bin/iam-token-refresher completion zsh >$(DESTDIR)$(ZSHDIR)/_iam-token-refresher
	@bin/iam-token-refresher completion fish >$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/iam-token-refresher.fish
	@$(INTO) 644 LICENSE $(DESTDIR)$(DOCDIR)/LICENSE
	@for f in systemd/examples/*; do $(INTO) 644 $$f $(DESTDIR)$(DOCDIR)/examples/$${f##*/} || exit 1; done

# Debian and RPM want a version that begins with a digit and has no dashes.
PACKAGE_VERSION ?= $(shell echo '$(VERSION)' | sed 's/^v\([0-9]\)/\1/; /^[0-9]*\.[0-9]/!s/^/0~/; s/-/+/; s/-/./g')
MAINTAINER      ?= iam-token-refresher <root@localhost>
PACKAGE          = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) ARCH=$$($(GO) env GOARCH) PACKAGE_VERSION='$(PACKAGE_VERSION)' \
	MAINTAINER='$(MAINTAINER)' $(TOOL) nfpm package --config systemd/packaging/nfpm.yaml --target dist/

deb: ## dist/*.deb
	@rm -rf dist/root && $(MAKE) --no-print-directory install DESTDIR=dist/root PREFIX=/usr ZSHDIR=/usr/share/zsh/vendor-completions
	@$(PACKAGE) --packager deb

rpm: ## dist/*.rpm
	@rm -rf dist/root && $(MAKE) --no-print-directory install DESTDIR=dist/root PREFIX=/usr
	@$(PACKAGE) --packager rpm

# The commands that reach a booted throw-away Debian with systemd, as root:
# $(SYSTEMD_RUN) CMD..., $(SYSTEMD_COPY) FILE PATH, and $(SYSTEMD_REBOOT).
SYSTEMD_RUN    ?=
SYSTEMD_COPY   ?=
SYSTEMD_REBOOT ?=
ifeq ($(strip $(SYSTEMD_RUN)),)
test-systemd: ## the package in a booted systemd; see the variables beside it
	@echo "skipped: say in SYSTEMD_RUN, SYSTEMD_COPY and SYSTEMD_REBOOT how to reach a booted throw-away Debian"
else
test-systemd: deb rpm
	SYSTEMD_RUN='$(SYSTEMD_RUN)' SYSTEMD_COPY='$(SYSTEMD_COPY)' SYSTEMD_REBOOT='$(SYSTEMD_REBOOT)' \
		SYSTEMD_PACKAGE="$$(ls -t $(CURDIR)/dist/*.deb | head -1)" SYSTEMD_RPM="$$(ls -t $(CURDIR)/dist/*.rpm | head -1)" \
		SYSTEMD_EMULATOR=$(CURDIR)/bin/iam-emulator \
		CGO_ENABLED=0 $(GO) test -count=1 -timeout 10m -v ./systemd
endif

# IMAGE_BUILD takes further options of "podman build"; for docker: docker build .
# With the same sources, base image and date it makes the same layers.
IMAGE       ?= localhost/iam-token-refresher:latest
IMAGE_BUILD ?= podman build --format docker -t $(IMAGE) .
IMAGE_DATE  ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)

.PHONY: image test-image test-kubernetes
image: ## the container image, with podman or what IMAGE_BUILD says
	$(IMAGE_BUILD) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) --timestamp $(IMAGE_DATE)

# How to reach a throw-away cluster whose node has IMAGE and busybox:1.36, and the
# address at which its pods reach a server of this process.
KUBECTL            ?=
KUBERNETES_ADDRESS ?=
# How long the test under load takes; KUBERNETES_RESTART restarts the kubelet.
KUBERNETES_LOAD    ?= 1m
KUBERNETES_RESTART ?=
ifeq ($(strip $(KUBECTL)),)
test-kubernetes: ## the sidecar in a cluster; see the variables beside it
	@echo "skipped: say in KUBECTL, KUBERNETES_ADDRESS and IMAGE how to reach a throw-away cluster"
else
test-kubernetes:
	KUBECTL='$(KUBECTL)' KUBERNETES_ADDRESS='$(KUBERNETES_ADDRESS)' KUBERNETES_IMAGE='$(IMAGE)' \
		KUBERNETES_LOAD=$(KUBERNETES_LOAD) KUBERNETES_RESTART='$(KUBERNETES_RESTART)' \
		$(GO) test -count=1 -timeout 25m -parallel 8 -v ./kubernetes
endif

# A program that is podman, and one that is podman-compose, with iam-token-refresher
# and busybox:1.36 among their images.
PODMAN         ?=
PODMAN_COMPOSE ?=
ifeq ($(strip $(PODMAN)),)
test-image: ## the image with podman alone; see the variable beside it
	@echo "skipped: say in PODMAN and PODMAN_COMPOSE what runs containers"
else
test-image:
	PODMAN='$(PODMAN)' PODMAN_COMPOSE='$(PODMAN_COMPOSE)' $(GO) test -count=1 -timeout 5m -v -run Podman ./kubernetes
endif

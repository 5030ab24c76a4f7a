# genfn: generation functions on NATS. `make help` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
PYTHON  ?= python3
CC      ?= gcc
RUNTIME := .runtime/openvino
OLDER   := .runtime/openvino-2024.6
CLIENTS := .runtime/clients
TRAINER := .runtime/train
PEERS   := .runtime/peers
SDCPP   := .runtime/sdcpp
VGPU    := .runtime/vgpu
VCUDA   := .runtime/vcuda
PROM    := .runtime/promtool
CUDA    := .runtime/cuda13/.installed .runtime/cuda12/.installed
ORT     := .runtime/onnxruntime
TOOLS   := $(RUNTIME)/.installed $(OLDER)/.installed $(CLIENTS)/.installed $(VGPU)/.installed $(CUDA) $(VCUDA)/.installed $(ORT)/.installed
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFILES := $(shell find bindings events functions native -name '*.go' -not -name '*_test.go' 2>/dev/null)
SCHEMAS := $(wildcard events/schema/*.json)
KERNELS := bindings/kernels/lib/libgenfn_kernels.so

export GENFN_CACHE_DIR ?= $(CURDIR)/.cache/genfn

.PHONY: help demo build native runtime vgpu cuda vcuda onnxruntime onnxruntime-gpu gpu-report not-run faults stress chaos chaos-short model test unit race check-native check-arm alerts lint peers bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

demo: build runtime ## make one picture the whole way: embedded NATS, instance, runner, OpenVINO; flags through ARGS="--prompt ..."
	bin/genfn demo --out bin/demo.png $(ARGS)

build: bin/genfn ## build bin/genfn, without cgo, with the native kernels inside

bin/genfn: $(GOFILES) $(SCHEMAS) go.mod go.sum $(KERNELS)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $@ ./functions/genfn

native: $(KERNELS) ## compile the native kernels (needs a C compiler; without one the Go reference is used)

# No compiler is no error: the binary then says "go" for its kernels.
$(KERNELS): $(wildcard native/kernels/*.c native/kernels/*.h native/kernels/Makefile)
	@if command -v $(CC) >/dev/null; then $(MAKE) -C native/kernels CC=$(CC); \
	else echo "no C compiler ($(CC)): genfn will use its Go kernels"; fi

runtime: $(RUNTIME)/.installed ## install the pinned OpenVINO runtime into .runtime (needs Python 3 with pip, once)

$(RUNTIME)/.installed: deploy/runtime/requirements.txt deploy/runtime/install.sh deploy/runtime/unpack.py deploy/wheels.sh
	PYTHON=$(PYTHON) deploy/runtime/install.sh $(@D) $<
	touch $@

vgpu: $(VGPU)/.installed ## install the virtual Intel GPU: OpenVINO's GPU plugin without a GPU, with injected faults (needs a C compiler)

# The layer is compiled anew whenever the folder was filled anew.
$(VGPU)/.installed: deploy/wheels.sh deploy/unpack.py $(wildcard deploy/vgpu/* native/vgpu/*.[ch] native/vgpu/Makefile native/fault/*)
	PYTHON=$(PYTHON) deploy/vgpu/install.sh $(VGPU)
	$(MAKE) -C native/vgpu CC=$(CC) LIBRARY=$(abspath $(VGPU))/libgenfn_vgpu.so
	touch $@

cuda: $(CUDA) ## install CUDA's runtime library and NVRTC, lines 13 and 12 (no driver, no toolkit)

.runtime/cuda%/.installed: deploy/cuda/requirements-%.txt deploy/cuda/install.sh deploy/unpack.py deploy/wheels.sh
	PYTHON=$(PYTHON) deploy/cuda/install.sh $(@D) $<
	touch $@

vcuda: $(VCUDA)/.installed ## build the virtual CUDA device: CUDA's calls on the CPU, with injected faults (needs a C compiler; NVRTC is the real one)

$(VCUDA)/.installed: .runtime/cuda13/.installed $(wildcard native/vcuda/*.[ch] native/vcuda/Makefile native/fault/* native/kernels/*.[ch])
	$(MAKE) -C native/vcuda CC=$(CC) LIBRARY=$(abspath $(VCUDA))/lib/libgenfn_vcuda.so
	ln -sf libgenfn_vcuda.so $(VCUDA)/lib/libcudart.so.13
	ln -sf libgenfn_vcuda.so $(VCUDA)/lib/libcuda.so.1
	ln -sf libgenfn_vcuda.so $(VCUDA)/lib/libnvidia-ml.so.1
	cd $(VCUDA)/lib && ln -sf ../../cuda13/lib/libnvrtc* .
	touch $@

onnxruntime: $(ORT)/.installed ## install ONNX Runtime for CPUs

$(ORT)/.installed: $(wildcard deploy/onnxruntime/*) deploy/unpack.py deploy/wheels.sh
	PYTHON=$(PYTHON) deploy/onnxruntime/install.sh $(@D)
	touch $@

onnxruntime-gpu: ## install ONNX Runtime for NVIDIA's GPUs, with cuBLAS and cuDNN (1.2 GB; for machines that have one)
	PYTHON=$(PYTHON) deploy/onnxruntime-gpu/install.sh .runtime/onnxruntime-gpu

# Everything in one folder, for a machine that has only a driver: programs without cgo, the runtime library, the
# kernels' code for the usual architectures (NVRTC itself is used if the machine has it).
REPORT := bin/gpu-report
GPUTESTS := ./bindings/cuda ./bindings/kernels ./bindings/nvml

gpu-report: native $(CUDA) ## build a folder that tries the CUDA parts on a machine with an NVIDIA GPU, and try it here: ARGS="--out FOLDER"
	rm -rf $(REPORT)
	mkdir -p $(REPORT)/bin $(REPORT)/.runtime/cuda13/lib $(REPORT)/.runtime/cuda12/lib
	CGO_ENABLED=0 $(GO) test -c -trimpath -ldflags "-s -w" -tags gpu -o $(REPORT)/bin/ $(GPUTESTS)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(REPORT)/bin/gpureport ./bench/gpureport
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(REPORT)/bin/genfn ./functions/genfn
	for line in 13 12; do \
		cp .runtime/cuda$$line/lib/libcudart.so.$$line $(REPORT)/.runtime/cuda$$line/lib/; \
		$(REPORT)/bin/gpureport compile $$line .runtime/cuda$$line $(REPORT)/kernels; \
	done
	du -sh $(REPORT)
	@echo "on a machine with a GPU: $(REPORT)/bin/gpureport run --out FOLDER"
	$(if $(ARGS),$(REPORT)/bin/gpureport run $(ARGS))

not-run: ## list the tests that need an NVIDIA GPU, and so are not run by make test
	@$(GO) test -tags gpu -list '^TestGPU' $(GPUTESTS) | awk '/^TestGPU/ { names[n++] = $$1 } \
		/^ok/ { for (i = 0; i < n; i++) print "NOT RUN  " $$2 " " names[i] ": needs an NVIDIA GPU (make gpu-report)"; n = 0 }'

faults: build $(TOOLS) ## the fault matrices on the virtual Intel GPU and CUDA device alone, with their tables
	CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m -run FaultMatrix -v ./functions/instance | grep -E '^ *(ok|FAIL|---|\|)|Error'

# The server listens on a free port and tells which as JSON.
stress: build runtime ## 2,000 short generations on the CPU with 10 % faults and 5 % cancels: does anything drift? Flags through ARGS="--seed 7"
	@mkdir -p .cache; dir=$$(mktemp -d); bin/genfn up --json --port 0 --slots 2 --devices CPU --log-level error --store-dir $$dir/js >$$dir/ready 2>.cache/stress.log & up=$$!; \
	trap 'kill $$up; wait $$up; rm -rf $$dir' EXIT; \
	until grep -q '"store"' $$dir/ready; do kill -0 $$up; sleep 0.2; done; \
	bin/genfn stress --nats "$$(sed -n 's/.*"nats": "\(.*\)".*/\1/p' $$dir/ready)" -n 2000 --sizes 64x64,96x64 --kill-runners --picture .cache/stress.svg $(ARGS)

# Servers and instances are processes of their own. It fails if a request was lost or answered twice.
chaos: build runtime $(VGPU)/.installed ## 10,000 requests through a storm of killed and cut off processes, on one node and on a cluster: ARGS="--seed 7 -n 2000"
	$(GO) run ./bench chaos --out .cache/chaos $(ARGS)

chaos-short: build runtime ## part of make test: 300 requests and a dozen actions, on one node and on a cluster, without models
	$(GO) run ./bench chaos --out .cache/chaos --short

$(OLDER)/.installed: deploy/runtime/requirements-2024.6.txt deploy/runtime/install.sh deploy/runtime/unpack.py deploy/wheels.sh
	PYTHON=$(PYTHON) deploy/runtime/install.sh $(@D) $<
	touch $@

$(CLIENTS)/.installed: $(wildcard deploy/clients/* events/examples/python/requirements.txt events/examples/javascript/*)
	PYTHON=$(PYTHON) deploy/clients/install.sh $(CURDIR)/$(CLIENTS)

$(TRAINER)/.installed: deploy/models/train/requirements.txt
	$(PYTHON) -m venv --clear $(TRAINER)
	$(TRAINER)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/models/train/requirements.txt
	touch $@

model: $(TRAINER)/.installed ## export the demo model again from its committed checkpoint (installs PyTorch; how to train it anew: deploy/models/train)
	cd deploy/models/train && $(CURDIR)/$(TRAINER)/bin/python -B export.py
	cd deploy/models/train && $(CURDIR)/$(TRAINER)/bin/python -B check.py

test: unit chaos-short race check-native alerts ## build what is needed and pass every test

unit: build $(TOOLS) ## the tests without the race detector, as the program is shipped: without cgo
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) test -shuffle=on -timeout 20m ./...
	CGO_ENABLED=0 $(GO) vet -tags gpu $(GPUTESTS)
	@$(MAKE) --no-print-directory not-run

race: build $(TOOLS) ## the tests under the race detector (this lane alone uses cgo)
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 25m ./...

check-native: ## the C tests of the native kernels and of both virtual devices under sanitizers
	$(MAKE) -C native/kernels CC=$(CC) check
	$(MAKE) -C native/vgpu CC=$(CC) check
	$(MAKE) -C native/vcuda CC=$(CC) check

check-arm: ## the C tests of the native kernels on an emulated arm64 (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
	$(MAKE) -C native/kernels check-arm

alerts: $(PROM)/.installed ## check the alert rules of deploy/alerts and pass their tests, with promtool
	$(PROM)/promtool check rules --lint=all --lint-fatal deploy/alerts/genfn.yml
	$(PROM)/promtool test rules deploy/alerts/genfn_test.yml

$(PROM)/.installed: deploy/alerts/install.sh
	deploy/alerts/install.sh $(@D)
	touch $@

lint: ## golangci-lint at its pinned version
	$(GO) -C deploy/lint build -o ../../.cache/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	.cache/golangci-lint run ./...
	.cache/golangci-lint run --build-tags gpu $(GPUTESTS)

# What cannot be installed here is NOT RUN in the report.
peers: ## install the harness's peers: OpenVINO GenAI, numpy, nats-py; diffusers with PyTorch (6 GB); stable-diffusion.cpp (compiles for 6 minutes of CPU time)
	-PYTHON=$(PYTHON) bench/peers/install.sh $(PEERS) bench/peers/requirements.txt
	-$(MAKE) $(TRAINER)/.installed
	-PYTHON=$(PYTHON) bench/peers/install.sh $(SDCPP) bench/peers/requirements-build.txt bench/peers/requirements-sdcpp.txt

bench: build runtime peers ## run the benchmark harness: tables and JSON beside their peers
	-$(MAKE) onnxruntime vcuda
	$(GO) run ./bench all

clean: ## remove what was built (the runtime in .runtime stays; remove it by hand)
	rm -rf bin .cache $(KERNELS)

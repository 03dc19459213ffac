# Two commands: `make demo` makes a video, `make test` checks everything. Both use .venv and install once.

PYTHON ?= python3
# For a CPU-only or a CUDA build of PyTorch see README, "Installing".
TORCH ?= torch==2.13.0
PROMPT ?= a red ball bounces on a blue background
SEED ?= 7
# For train-mini: processes that share each batch; a divisor of 32. For skill: processes that share the videos.
PROCESSES ?= 2
# For skill: sizes that are measured one after another, WIDTHxHEIGHT, and the frames of each.
SIZES ?= 64x64
FRAMES ?= 17

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check soak skill bench bench-full world images train-mini clean

help:
	@echo "make demo        install, make a video with the embedded model, lay its frames out on an image"
	@echo "make test        install, then formatting, lint, types, layers and all tests"
	@echo "make check       the same without installing and without tests"
	@echo "make soak        longer tests by name: lists them; make soak PART=avx2 runs one"
	@echo "make skill       measure the embedded model: 200 videos for each of three levels and two splits (SIZES, FRAMES)"
	@echo "make bench       compare with diffusers, and both kinds of attention (make bench-full: larger, longer)"
	@echo "make world       does the reader read what the world renders? 200 videos at each of 36 sizes and levels"
	@echo "make images    make the images of README and docs"
	@echo "make train-mini  train the embedded model from nothing (hours on a CPU)"

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev,conformance]"
	@touch $@

demo: .venv/installed
	@mkdir -p videos
	$(BIN)/kinoform generate "$(PROMPT)" --seed $(SEED) --contact-sheet --force --output videos/demo.mp4
	@echo "the video: videos/demo.mp4    its frames on one image: videos/demo_sheet.png"

# One process a core and one thread each: two threads spend more time waiting for each other than they save.
test: .venv/installed-dev check
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

check: .venv/installed-dev
	$(BIN)/ruff format --check src tests benchmarks examples docs/*.py
	$(BIN)/ruff check src tests benchmarks examples docs/*.py
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# Longer than a change has to wait for, each bounded: a name, about how long, and what it runs.
SOAK_LIMIT ?= 3600
SOAK_avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=1 \
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
SOAK_peak-memory := $(BIN)/python benchmarks/peak_memory.py
SOAK_load-memory := $(BIN)/python benchmarks/load_memory.py
SOAK_world := $(BIN)/python benchmarks/world.py
SOAK_types-3.13 := $(BIN)/basedpyright --level error --pythonversion 3.13 src examples
SOAK_kills := KINOFORM_KILLS=200 OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/training/test_kill.py
SOAK_overfit := $(BIN)/python benchmarks/overfit.py
SOAK_PARTS := avx2 kills overfit peak-memory load-memory world types-3.13

soak: .venv/installed-dev
ifeq ($(PART),)
	@echo "avx2         all tests with the kernels of processors without AVX-512 (half an hour on two cores)"
	@echo "kills        a training that is killed 200 times, also inside its saves (a minute, Linux and macOS)"
	@echo "overfit      a LoRA learns one clip by heart, to the stated loss (a minute)"
	@echo "peak-memory  videos in processes of their own beside what kinoform plan says (minutes, Linux)"
	@echo "load-memory  what a load of T2V-1.3B's size takes of the host (minutes, 3 GB of disk, Linux)"
	@echo "world        does the reader read what the world renders (make world)"
	@echo "types-3.13   types of the package and the examples as Python 3.13 sees them (half a minute)"
else ifeq ($(filter $(PART),$(SOAK_PARTS)),)
	@echo "no part $(PART); there are: $(SOAK_PARTS)"; exit 2
else
	$(BIN)/python benchmarks/bounded.py $(SOAK_LIMIT) '$(SOAK_$(PART))'
endif

skill: .venv/installed
	@mkdir -p videos
	for size in $(SIZES); do \
		$(BIN)/kinoform evaluate mini --size $$size --frames $(FRAMES) --processes $(PROCESSES) \
			--html videos/skill_$$size.html --force || exit; \
	done

bench: .venv/installed-dev
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/schemes.py

bench-full: .venv/installed-dev
	$(BIN)/python benchmarks/run.py --full

world: .venv/installed
	$(BIN)/python benchmarks/world.py

images: .venv/installed
	$(BIN)/python docs/six_videos.py
	$(BIN)/python docs/editing_videos.py
	$(BIN)/python docs/two_schemes.py

train-mini: .venv/installed
	$(BIN)/kinoform train mini --processes $(PROCESSES)

clean:
	rm -rf .venv videos

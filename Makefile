# For people. `make` alone explains the targets; all of them run in the project's own virtual environment.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin

.PHONY: help env up down test fast lint format types generate lock bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## Make the virtual environment and install what requirements.lock names
	@sh -c '. hack/lib.sh; ensure_env' hack/env

up: ## Start control plane, operator and quickstart on this machine
	@./hack/up

down: ## Stop them; data stays
	@./hack/down

test: ## Everything that must hold before a change lands
	@./hack/test

fast: ## Lint, types and unit tests only
	@./hack/test --fast

lint: env ## Lint and layers
	@$(BIN)/ruff check . && $(BIN)/lint-imports --no-logo

format: env ## Format the code and mend what can be mended by itself
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

types: env ## Type-check
	@$(BIN)/mypy

generate: env ## Write crds/, the chart's copies and docs/reference/ from the models
	@$(BIN)/python -m chandlery.gen && $(BIN)/python hack/kustomize-base

lock: env ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--all-extras --group dev --no-header --quiet pyproject.toml -o requirements.lock

bench: env ## The loop's figures, beside a plain kopf operator in the same run
	@$(BIN)/python tests/bench/loop.py

clean: ## Remove what can be made again; keeps .chandlery with its data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

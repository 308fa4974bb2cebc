# Shared by the scripts in hack/: finds Python, makes the virtual environment, installs what the lock file names.
# Sourced, never run. Needs nothing but POSIX sh and a Python 3.11 or newer with venv.

ROOT=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
VENV=${CHANDLERY_VENV:-$ROOT/.venv}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

find_python() {
    for candidate in ${CHANDLERY_PYTHON:-} python3.13 python3.12 python3.11 python3.14 python3; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # -I keeps the checkout's own folders off sys.path: a stray operator/__init__.py can't break this line.
        if "$candidate" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# ensure_env: a virtual environment that holds exactly what requirements.lock names, and this checkout, editable.
ensure_env() {
    stamp=$VENV/.installed-from
    want=$(cat "$ROOT/requirements.lock" "$ROOT/pyproject.toml" "$ROOT/hack/uv.lock" | cksum)
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want $ROOT" ]; then
        compile_sources
        return 0
    fi
    if [ ! -x "$VENV/bin/python" ]; then
        python=$(find_python) || die "no Python 3.11 or newer with venv found; install one, or name it in CHANDLERY_PYTHON"
        say "making the virtual environment in ${VENV#"$ROOT"/} with $("$python" -I -V)"
        "$python" -I -m venv "$VENV" || die "could not make $VENV (Debian: apt install python3-venv)"
    fi
    # uv installs the rest several times faster than pip; its own wheel comes by pip, pinned with a hash.
    if ! "$VENV/bin/uv" --version >/dev/null 2>&1; then
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$ROOT/hack/uv.lock" ||
            die "could not install uv; is a package index within reach?"
    fi
    say "installing what requirements.lock names"
    "$VENV/bin/uv" pip sync --quiet --python "$VENV/bin/python" --require-hashes "$ROOT/requirements.lock" ||
        die "could not install the locked packages; is a package index within reach?"
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --editable "$ROOT" ||
        die "could not install this checkout"
    compile_sources
    printf '%s %s' "$want" "$ROOT" >"$stamp"
}

# compile_sources: bytecode for what changed (0.1 s when nothing did). Where PYTHONDONTWRITEBYTECODE is set, each process
# would otherwise compile our modules anew, which takes longer than the control plane's whole start.
compile_sources() {
    packages=$(ls -d "$VENV"/lib/python3.*/site-packages/uvloop "$VENV"/lib/python3.*/site-packages/httptools \
        "$VENV"/lib/python3.*/site-packages/orjson 2>/dev/null) || true
    # shellcheck disable=SC2086 # one word for each folder
    "$VENV/bin/python" -m compileall -q "$ROOT/operator" "$ROOT/controllers" $packages || true
}

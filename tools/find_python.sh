#!/bin/sh
# Print the full path of a Python that is new enough; else say in one line what is missing and fail.
# Each candidate is asked, because a name on the PATH can exist without working (version managers leave such stubs).
set -u

fits='import sys, venv; raise SystemExit(not (sys.version_info >= (3, 11) and sys.implementation.name == "cpython"))'
brings_pip='from importlib.util import find_spec as f; raise SystemExit(not (f("ensurepip") or f("pip")))'

answers() {
    "$1" -c "$2" </dev/null >/dev/null 2>&1
}

print_path() {
    # The path of the program itself: a stub may answer differently in another directory.
    exec "$1" -c 'import sys; print(sys.executable)' </dev/null
}

if [ -n "${PYTHON:-}" ]; then
    answers "$PYTHON" "$fits" && print_path "$PYTHON"
    echo "uniqdb: PYTHON=$PYTHON is no working CPython 3.11 or newer with the venv module" >&2
    exit 1
fi

spare=
for candidate in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python \
    /usr/bin/python3 /usr/local/bin/python3; do
    answers "$candidate" "$fits" || continue
    answers "$candidate" "$brings_pip" && print_path "$candidate"
    [ -n "$spare" ] || spare=$candidate
done
# One without a pip will do, too: some other pip on the machine may serve it.
[ -z "$spare" ] || print_path "$spare"

echo "uniqdb needs CPython 3.11 or newer: install it (Debian, Ubuntu: apt install python3 python3-venv;" \
    "macOS: brew install python), or name one: make PYTHON=/path/to/python3" >&2
exit 1

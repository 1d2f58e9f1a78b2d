# The few lines that the shell programs of this folder share. Sourced.
# shellcheck shell=bash

# The names of the checks to run (all when empty); the program sets it.
ONLY=()
RUN=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
WORK=$(mktemp -d "${TMPDIR:-/tmp}/compat.XXXXXX")
PASSED=0
FAILED=0
trap 'rm -rf "$WORK"' EXIT

# unique WHAT: a topic or group name that no other run uses.
unique() { echo "$1-$RUN"; }

# same WANTED_FILE GOT_FILE: byte for byte.
same() {
    cmp -s "$1" "$2" && return 0
    echo "differs: wanted $(wc -c <"$1") bytes, got $(wc -c <"$2") bytes"
    diff "$1" "$2" | head -20
    return 1
}

# has PATTERN FILE: a line of the file matches (grep -E).
has() {
    grep -Eq -- "$1" "$2" && return 0
    echo "no line matches '$1' in:"
    head -c 2000 "$2"
    return 1
}

lacks() {
    ! grep -Eq -- "$1" "$2" && return 0
    echo "a line matches '$1':"
    grep -E -- "$1" "$2" | head -c 2000
    return 1
}

# eventually COMMAND...: repeats until it succeeds, at most 30 s.
eventually() {
    local end=$((SECONDS + 30))
    until "$@" >"$WORK/.last" 2>&1; do
        [ $SECONDS -lt $end ] || { echo "never: $*"; cat "$WORK/.last"; return 1; }
        sleep 0.3
    done
}

# check NAME: runs the function NAME in a shell of its own that ends at the first failing command.
check() {
    local began=$SECONDS code=0
    if [ ${#ONLY[@]} -gt 0 ] && [[ " ${ONLY[*]} " != *" $1 "* ]]; then return 0; fi
    (set -euo pipefail; "$1") >"$WORK/.out" 2>&1 &
    wait $! || code=$?
    if [ $code = 0 ]; then
        PASSED=$((PASSED + 1))
        echo "ok $1 ($((SECONDS - began)) s)"
    else
        FAILED=$((FAILED + 1))
        echo "FAIL $1 (exit $code)"
        tail -c 4000 "$WORK/.out" | sed 's/^/    /'
    fi
}

report() {
    echo "$PASSED passed, $FAILED failed"
    [ $FAILED = 0 ] && [ $PASSED -gt 0 ]
}

# What the examples share: strict mode, and a check that says what it saw. Names end in a suffix of their own, so that an
# example may be run again and again on the same server.
set -euo pipefail

export LAKEFALL_URL=${LAKEFALL_URL:-http://127.0.0.1:8080}
suffix=$$-$RANDOM

# expect WHAT EXPECTED ACTUAL
expect() {
    if [ "$2" != "$3" ]; then
        printf 'expected %s to be:\n%s\nbut it is:\n%s\n' "$1" "$2" "$3" >&2
        exit 1
    fi
    printf 'ok: %s\n' "$1"
}

# field NAME: the first value of a field in the JSON on standard input, which must be a string or a number.
field() {
    grep -o "\"$1\": *\"\?[^\",}]*" | head -n 1 | sed 's/^[^:]*: *"\?//'
}

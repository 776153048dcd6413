#!/usr/bin/env bash
# A job that fails is tried again, later each time; after three attempts it becomes a dead letter, with the reason. When the
# fault is mended, dead letters are put back.
. "$(dirname "$0")/common.sh"
queue=pay-$suffix

lakefall queue create "$queue" --dead-letter "$queue.dead" --max-attempts 3 --retry-min 100ms --retry-multiplier 2
lakefall send "$queue" '{"account":7}'

lakefall work "$queue" -n 3 -- bash -c 'echo "no such account" >&2; exit 1'
dead=$(lakefall queue dead-letters "$queue")
printf '%s\n' "$dead"
grep -q 'no such account' <<<"$dead"
expect 'the dead letters' 1 "$(curl -sf "$LAKEFALL_URL/v1/queues/$queue/stats" | field dead)"

lakefall queue redrive "$queue" --dry-run
lakefall queue redrive "$queue" --max-per-second 100
lakefall work "$queue" -n 1 -- bash -c 'test "$(cat)" = "{\"account\":7}"'
expect 'the dead letters after the redrive' 0 "$(curl -sf "$LAKEFALL_URL/v1/queues/$queue/stats" | field dead)"

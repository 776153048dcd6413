#!/usr/bin/env bash
# One producer, one consumer: send, receive, acknowledge. What is not acknowledged comes back when its lease is over.
. "$(dirname "$0")/common.sh"
queue=simple-$suffix

lakefall queue create "$queue"
lakefall send "$queue" '{"job":1}'

received=$(lakefall receive "$queue" --wait 5s --lease 1s)
expect 'the message' '{"job":1}' "$(lakefall receive "$queue" --wait 10s --values)"   # the first lease ran out

lakefall queue purge "$queue" --yes
lakefall send "$queue" 'hello'
receipt=$(lakefall receive "$queue" --wait 5s | field receipt)
curl -sf "$LAKEFALL_URL/v1/queues/$queue/ack" -H 'Content-Type: application/json' -d "{\"receipts\": [\"$receipt\"]}" >/dev/null
expect 'what is left after the acknowledgement' '' "$(lakefall receive "$queue" --wait 2s)"
test -n "$received"

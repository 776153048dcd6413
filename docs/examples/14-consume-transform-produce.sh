#!/usr/bin/env bash
# One call takes a message off one queue and puts its result into another topic, all or nothing: whatever crashes, the effect
# of each input is there once.
. "$(dirname "$0")/common.sh"
queue=orders-$suffix
json='Content-Type: application/json'

lakefall queue create "$queue"
lakefall queue create "invoices-$suffix"
lakefall send "$queue" '{"order": 1}'

receipt=$(lakefall receive "$queue" --wait 5s | field receipt)
commit="{\"acks\": [{\"queue\": \"$queue\", \"receipts\": [\"$receipt\"]}],
         \"appends\": [{\"topic\": \"invoices-$suffix\", \"records\": [{\"value\": {\"invoice\": 1}}]}]}"
curl -sf "$LAKEFALL_URL/v1/commit" -H "$json" -H 'Idempotency-Key: invoice-1' -d "$commit" >/dev/null
# The answer was lost? The same again, with the same key, changes nothing.
curl -sf "$LAKEFALL_URL/v1/commit" -H "$json" -H 'Idempotency-Key: invoice-1' -d "$commit" >/dev/null
# With another key the receipt is of no use any more: refused as a whole.
status=$(curl -s -o /dev/null -w '%{http_code}' "$LAKEFALL_URL/v1/commit" -H "$json" -d "$commit")
expect 'the status of a second use of the receipt' 409 "$status"

expect 'the invoices' '{"invoice": 1}' "$(lakefall receive "invoices-$suffix" -n 2 --wait 2s --values --ack)"
expect 'the orders left' '' "$(lakefall receive "$queue" --wait 1s)"

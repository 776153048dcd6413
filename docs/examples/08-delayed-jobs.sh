#!/usr/bin/env bash
# Jobs for later: a delay or a time, up to a year; a job that is not due yet can be cancelled.
. "$(dirname "$0")/common.sh"
queue=later-$suffix
json='Content-Type: application/json'

lakefall queue create "$queue"
lakefall send "$queue" --delay 365d 'next year'
lakefall send "$queue" 'now'
expect 'what is there at once' 'now' "$(lakefall receive "$queue" -n 3 --wait 1s --values --ack)"
lakefall send "$queue" --delay 2s 'in two seconds'
expect 'what came later' 'in two seconds' "$(lakefall receive "$queue" --wait 10s --values --ack)"

# The first message of partition 0 is cancelled: it has offset 0.
curl -sf -X DELETE "$LAKEFALL_URL/v1/queues/$queue/messages/0-0"
expect 'what is delayed' 0 "$(curl -sf "$LAKEFALL_URL/v1/queues/$queue/stats" | field delayed)"
curl -s "$LAKEFALL_URL/v1/queues/$queue/messages" -H "$json" -d '{"value": 1, "delay": "366d"}' | field code

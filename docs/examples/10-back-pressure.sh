#!/usr/bin/env bash
# Peak shaving: a peak waits in the queue and is worked off at the workers' pace. A queue with a bound refuses what does not
# fit, with 429 and a hint when to come back; with drop_oldest it lets go of the oldest instead.
. "$(dirname "$0")/common.sh"
queue=peak-$suffix
json='Content-Type: application/json'
send() { curl -s -o /dev/null -w '%{http_code}' "$LAKEFALL_URL/v1/queues/$1/messages" -H "$json" -d "{\"value\": $2}"; }

lakefall queue create "$queue" --max-depth 10
for i in $(seq 1 10); do expect "the status of message $i" 200 "$(send "$queue" "$i")"; done
expect 'the status of one too many' 429 "$(send "$queue" 11)"
lakefall receive "$queue" --wait 5s --ack >/dev/null
expect 'the status after one was done' 200 "$(send "$queue" 12)"

lakefall queue create "latest-$suffix" --max-depth 3 --overflow drop_oldest
seq 1 10 | lakefall send "latest-$suffix"
expect 'the latest three' "$(printf '8\n9\n10')" "$(lakefall receive "latest-$suffix" -n 3 --wait 5s --values --ack)"

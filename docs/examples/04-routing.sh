#!/usr/bin/env bash
# Direct routing: a binding takes the messages whose routing key is exactly its own. The routing key is the header
# routing-key, else the key.
. "$(dirname "$0")/common.sh"
topic=logs-$suffix

lakefall topic create "$topic"
for level in error info; do
    lakefall queue create "$level-$suffix" --topic "$topic-unused" 2>/dev/null && exit 1   # a topic that is not there is refused
    lakefall queue create "$level-$suffix"
    lakefall queue bind "$level-$suffix" by-level "$topic" --exact "$level"
done
printf '%s\n' '{"key": "error", "value": "disk full"}' '{"key": "info", "value": "started"}' '{"key": "error", "value": "no route"}' |
    lakefall produce "$topic" --format records

expect 'the errors' "$(printf 'disk full\nno route')" "$(lakefall receive "error-$suffix" -n 2 --wait 5s --values --ack)"
expect 'the rest' 'started' "$(lakefall receive "info-$suffix" --wait 5s --values --ack)"

#!/usr/bin/env bash
# Many sources write lines into one topic; one reader replays all of it from the start, one follows the end, and a queue
# takes out what somebody has to look at. One stored copy serves them all.
. "$(dirname "$0")/common.sh"
topic=lines-$suffix

lakefall topic create "$topic" --retention-age 7d
lakefall queue create "alerts-$suffix" --topic "$topic" --filter 'value.contains("ERROR")'
for host in a b c; do
    printf 'host %s INFO started\nhost %s ERROR no disk\n' "$host" "$host" | lakefall produce "$topic" --format lines &
done
wait

expect 'the lines' 6 "$(lakefall consume "$topic" --from earliest --format value | wc -l)"
expect 'the alerts' 3 "$(lakefall receive "alerts-$suffix" -n 3 --wait 5s --values --ack | grep -c ERROR)"

#!/usr/bin/env bash
# One topic, several queues: every queue gets every message, out of one stored copy. A queue may begin in the past.
. "$(dirname "$0")/common.sh"
topic=news-$suffix

lakefall topic create "$topic"
lakefall queue create "mail-$suffix" --topic "$topic"
lakefall queue create "search-$suffix" --topic "$topic"
printf '"one"\n"two"\n' | lakefall produce "$topic"
lakefall queue create "audit-$suffix" --topic "$topic" --start earliest

for queue in mail search audit; do
    expect "what $queue got" "$(printf 'one\ntwo')" "$(lakefall receive "$queue-$suffix" -n 2 --wait 5s --values --ack)"
done

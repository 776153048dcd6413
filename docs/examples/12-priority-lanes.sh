#!/usr/bin/env bash
# Urgent messages overtake: 9 is first, 0 (the default) last; within a priority the oldest is first.
. "$(dirname "$0")/common.sh"
queue=lanes-$suffix

lakefall queue create "$queue"
lakefall send "$queue" 'ordinary 1' 'ordinary 2'
lakefall send "$queue" --priority 5 'soon'
lakefall send "$queue" --priority 9 'now'

expect 'the order' "$(printf 'now\nsoon\nordinary 1\nordinary 2')" "$(lakefall receive "$queue" -n 4 --wait 5s --values --ack)"

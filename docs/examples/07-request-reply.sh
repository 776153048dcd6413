#!/usr/bin/env bash
# Request and reply: the request carries the topic for the reply and an id that joins the two. One call sends and waits.
. "$(dirname "$0")/common.sh"
queue=double-$suffix
json='Content-Type: application/json'

lakefall queue create "$queue"
lakefall topic create "$queue.replies"

# The service: doubles a number and answers where it was asked to.
lakefall work "$queue" -n 1 -- bash -c '
    printf "{\"value\": %s, \"correlation_id\": \"%s\"}\n" "$(( $(cat) * 2 ))" "$LAKEFALL_CORRELATION_ID" |
        lakefall produce "$LAKEFALL_REPLY_TO" --format records' &

reply=$(curl -sf "$LAKEFALL_URL/v1/topics/$queue/request?wait=20s" -H "$json" -d '{"value": 21}')
expect 'the reply' 42 "$(field value <<<"$reply")"
wait

# Nobody answers any more: 504, and it says where the request lies.
status=$(curl -s -o /dev/null -w '%{http_code}' "$LAKEFALL_URL/v1/topics/$queue/request?wait=200ms" -H "$json" -d '{"value": 1}')
expect 'the status without a reply' 504 "$status"

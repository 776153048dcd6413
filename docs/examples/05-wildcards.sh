#!/usr/bin/env bash
# Topic routing as in AMQP: words with dots between them, * for one word, # for any number of words.
. "$(dirname "$0")/common.sh"
topic=events-$suffix

lakefall topic create "$topic"
lakefall queue create "europe-$suffix"
lakefall queue bind "europe-$suffix" orders "$topic" --wildcard 'orders.*.eu'
lakefall queue create "orders-$suffix"
lakefall queue bind "orders-$suffix" orders "$topic" --wildcard 'orders.#'

for key in orders.new.eu orders.new.us orders.paid.eu users.new.eu orders; do
    printf '{"key": "%s", "value": "%s"}\n' "$key" "$key"
done | lakefall produce "$topic" --format records

expect 'the orders of Europe' "$(printf 'orders.new.eu\norders.paid.eu')" \
    "$(lakefall receive "europe-$suffix" -n 2 --wait 5s --values --ack)"
expect 'all orders' "$(printf 'orders.new.eu\norders.new.us\norders.paid.eu\norders')" \
    "$(lakefall receive "orders-$suffix" -n 4 --wait 5s --values --ack)"

#!/usr/bin/env bash
# Messages of one key are worked on one at a time and in order, also when one of them fails; other keys go on meanwhile.
. "$(dirname "$0")/common.sh"
queue=accounts-$suffix
seen=$(mktemp)

lakefall queue create "$queue" --ordering key
for i in 1 2 3; do
    lakefall send "$queue" --key anna "anna $i" >/dev/null
    lakefall send "$queue" --key bert "bert $i" >/dev/null
done

# Anna's first message fails once.
lakefall work "$queue" --concurrency 4 -n 7 -- bash -c '
    read -r message || true
    if [ "$message" = "anna 1" ] && [ "$LAKEFALL_ATTEMPT" = 1 ]; then exit 1; fi
    echo "$message" >>'"$seen"
expect "Anna's messages" "$(printf 'anna 1\nanna 2\nanna 3')" "$(grep anna "$seen")"
expect "Bert's messages" "$(printf 'bert 1\nbert 2\nbert 3')" "$(grep bert "$seen")"

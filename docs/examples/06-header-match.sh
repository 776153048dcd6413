#!/usr/bin/env bash
# Routing by headers, and by an expression over headers and the fields of a JSON value (CEL).
. "$(dirname "$0")/common.sh"
topic=media-$suffix

lakefall topic create "$topic"
lakefall queue create "pdf-$suffix"
lakefall queue bind "pdf-$suffix" pdf "$topic" --header format=pdf --header kind=report
lakefall queue create "large-$suffix" --topic "$topic" --filter 'value.pages > 100 && headers["format"] == "pdf"'

printf '%s\n' \
    '{"headers": {"format": "pdf", "kind": "report"}, "value": {"pages": 7}}' \
    '{"headers": {"format": "pdf", "kind": "log"}, "value": {"pages": 700}}' \
    '{"headers": {"format": "zip", "kind": "report"}, "value": {"pages": 900}}' |
    lakefall produce "$topic" --format records

expect 'the PDF reports' '{"pages": 7}' "$(lakefall receive "pdf-$suffix" --wait 5s --values --ack)"
expect 'the large PDFs' '{"pages": 700}' "$(lakefall receive "large-$suffix" --wait 5s --values --ack)"
expect 'what is left' '' "$(lakefall receive "pdf-$suffix" --wait 1s)$(lakefall receive "large-$suffix" --wait 1s)"

# An expression that does not parse is refused, and the refusal says where.
if refusal=$(lakefall queue create "bad-$suffix" --topic "$topic" --filter 'value.pages >' 2>&1); then exit 1; fi
case $refusal in *'line 1, column'*) printf '%s\n' "$refusal" ;; *) exit 1 ;; esac

#!/usr/bin/env bash
# Several workers share one queue: each message goes to one of them, and a slow worker takes no more than it can do.
. "$(dirname "$0")/common.sh"
queue=work-$suffix
done_by=$(mktemp -d)

lakefall queue create "$queue"
seq 1 40 | lakefall send "$queue"

worker() {
    lakefall work "$queue" --until-empty -- bash -c "sleep $2; cat >>'$done_by/$1'; echo >>'$done_by/$1'"
}
worker quick 0 & quick=$!
worker slow 0.3 & slow=$!
wait "$quick" "$slow"

expect 'the jobs done, each once' "$(seq 1 40)" "$(cat "$done_by"/* | sort -n)"
quick_jobs=$(wc -l <"$done_by/quick")
slow_jobs=$(wc -l <"$done_by/slow")
printf 'the quick worker did %s jobs, the slow one %s\n' "$quick_jobs" "$slow_jobs"
test "$quick_jobs" -gt "$slow_jobs"

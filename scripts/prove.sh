#!/usr/bin/env bash
# prove.sh [ARG...]
#
# Runs the tests that have two forms in their long form: go test -run Prove with
# GATEHOUSE_PROVE=1 and the given arguments (-race, say), one at a time, since some have bars of time. What they report goes into the section
# Proofs of docs/benchmarks.md, with the commit, the command, the date and the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

record=docs/benchmarks.md
command=(scripts/with-postgres.sh go test -run Prove -count=1 -v -p 1 -parallel 1 -timeout 120m "$@" ./...)
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain -- . ":!$record")" ] || commit+=" with uncommitted changes"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
GATEHOUSE_PROVE=1 "${command[@]}" 2>&1 | tee "$log" || status=$?

proof() {
	echo '```'
	echo "commit:  $commit"
	echo "command: GATEHOUSE_PROVE=1 ${command[*]}"
	echo "date:    $(date -u +%Y-%m-%dT%H:%M:%SZ)"
	echo "machine: $(go version | cut -d' ' -f3-), $(getconf _NPROCESSORS_ONLN) processors"
	echo "status:  $status"
	echo
	# What the tests themselves logged, the verdicts, and a line for each package that has such tests.
	grep -E '^ +[a-z0-9_]+_test\.go:[0-9]+: |^--- |^ +--- FAIL|^(ok|FAIL|panic:)' "$log" | grep -vF '[no tests to run]' || true
	echo '```'
}

# Everything from the marker on is the last proof.
marker='<!-- written by make prove: nothing below this line is kept -->'
grep -qxF -- "$marker" "$record"
{
	sed "/^$marker\$/q" "$record"
	echo
	proof
} >"$log.new"
cat "$log.new" >"$record"
rm -f "$log.new"
echo "recorded in $record" >&2
exit "$status"

#!/usr/bin/env bash
# fuzz.sh DURATION
#
# Runs every fuzz target of the module for DURATION each: go test takes one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ]; then
	echo "usage: ${0##*/} DURATION" >&2
	exit 2
fi

status=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	listed=$(go test -list '^Fuzz' "$package")
	for target in $(grep '^Fuzz' <<<"$listed" || true); do
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package" || status=1
	done
done
exit $status

#!/usr/bin/env bash
# keep-corpus.sh N
#
# Copies what fuzzing has found to reach new code from Go's cache, where fuzz.sh leaves it, into
# testdata/fuzz, where every run of the tests tries it again: N inputs for each target, of all sizes
# up to 2 KiB, in place of those kept before. Findings have names of their own and stay.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ]; then
	echo "usage: ${0##*/} N" >&2
	exit 2
fi

module=$(go list -m)
cache=$(go env GOCACHE)/fuzz/$module
cd "$cache"
find . -type d -name 'Fuzz*' | while read -r target; do
	# The names in the cache are hashes, those of findings are words.
	kept=$OLDPWD/$(dirname "$target")/testdata/fuzz/$(basename "$target")
	[ -d "$OLDPWD/$(dirname "$target")" ] || continue
	mkdir -p "$kept"
	find "$kept" -type f -regextype posix-extended -regex '.*/[0-9a-f]{16}' -delete
	find "$target" -type f -size -2049c -printf '%s %p\n' | sort -n |
		awk -v n="$1" '{ all[NR] = $2 } END { step = NR > n ? NR / n : 1; for (i = 1; i <= NR; i += step) print all[int(i)] }' |
		xargs -r cp -t "$kept"
done

#!/usr/bin/env bash
# bench.sh [ARG...]
#
# Measures every row of the table of logins in docs/benchmarks.md, checks each against its bar, and writes
# the table and its plots there. It takes up to 40 minutes and wants a quiet machine. With QUICK=1 it
# measures each row once with small counts, writes nothing, and fails only for a bad token that is admitted
# or a client that is lost. Arguments go to bench/table: -rows steady,half measures and prints these alone.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain -- . ':!docs/benchmarks*')" ] || commit+=" with uncommitted changes"
bench/build.sh
if [ -n "${QUICK:-}" ]; then
	set -- -quick "$@"
fi
exec bench/bin/table -commit "$commit" "$@"

#!/usr/bin/env bash
# interop.sh [GO TEST FLAG...]
#
# Runs Gatehouse with programs that others make, see interop/doc.go: prepares those that are not there or not up to
# date, runs the tests, and lists what ran and what did not, and why. Needs Go, and Node.js with npm, which it installs
# as root on Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/bin/interop

install_node() {
	command -v node >/dev/null && command -v npm >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "Node.js and npm are missing; install them and run this again" >&2
		return 1
	fi
	echo "installing Node.js and npm" >&2
	apt-get update -qq >&2 &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
}

packages() {
	cmp -s interop/package-lock.json interop/node_modules/.gatehouse-lock && return
	(cd interop && npm ci --loglevel=error) && cp interop/package-lock.json interop/node_modules/.gatehouse-lock
}

programs() {
	mkdir -p "$bin"
	CGO_ENABLED=0 go build -o "$bin/gatehouse" ./cmd/gatehouse
	# Dex cannot be installed by version, see docs/decisions.md; its build takes minutes when nothing is cached.
	(cd interop/dex && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$bin/dex" github.com/dexidp/dex/cmd/dex)
}

install_node
packages
programs

log=$bin/log
status=0
GATEHOUSE_TEST_INTEROP=$bin go test -count=1 -v -parallel 8 -timeout 5m "$@" ./interop >"$log" 2>&1 || status=$?
[ $status = 0 ] || cat "$log"
echo "interop:"
# A skipped test says why on the line above its verdict.
awk '/^ *[a-z_]+_test\.go:[0-9]+: not run: / { sub(/^.*not run: /, ""); why = $0 }
	/^ *--- / { print "  " $2 " " $3 " " $4 (why != "" && $2 == "SKIP:" ? " not run: " why : ""); why = "" }' "$log"
exit $status

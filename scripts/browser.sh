#!/usr/bin/env bash
# browser.sh [GO TEST FLAG...]
#
# Runs the tests of examples/browser: prepares the page's library and runs the page in a headless Chromium, which it
# installs as root on Debian. Needs Go, and Node.js with npm, which it installs there too.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/bin/browser

install() { # PACKAGE...
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "missing here: $*; install them and run this again" >&2
		return 1
	fi
	echo "installing $*" >&2
	apt-get update -qq >&2 &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

{ command -v node && command -v npm; } >/dev/null || install nodejs npm
command -v chromium >/dev/null || install chromium

mkdir -p "$bin"
CGO_ENABLED=0 go build -o "$bin/gatehouse" ./cmd/gatehouse
lock=examples/browser/package-lock.json
cmp -s $lock examples/browser/node_modules/.gatehouse-lock ||
	{ (cd examples/browser && npm ci --loglevel=error) && cp $lock examples/browser/node_modules/.gatehouse-lock; }

GATEHOUSE_TEST_BROWSER=$bin CHROMIUM=$(command -v chromium) go test -count=1 -timeout 5m "$@" ./examples/browser

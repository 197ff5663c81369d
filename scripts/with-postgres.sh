#!/usr/bin/env bash
# with-postgres.sh COMMAND [ARG...]
#
# Runs COMMAND with a PostgreSQL named by GATEHOUSE_TEST_POSTGRES: the one that is given there,
# or a throw-away server that listens on a Unix socket only and is gone afterwards. Exits with
# COMMAND's status, or with 3 when there is no PostgreSQL to be had.
set -euo pipefail

if [ $# -eq 0 ]; then
	echo "usage: ${0##*/} COMMAND [ARG...]" >&2
	exit 2
fi
if [ -n "${GATEHOUSE_TEST_POSTGRES:-}" ]; then
	exec "$@"
fi

# Prints the folder that holds initdb and pg_ctl: the newest packaged one, else that in PATH.
find_postgres() {
	local dir
	for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
		/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin | sort -rV); do
		if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ]; then
			echo "$dir"
			return
		fi
	done
	command -v pg_ctl >/dev/null && dir=$(command -v initdb) && dirname "$dir"
}

install_postgres() {
	echo "installing PostgreSQL for the tests" >&2
	apt-get update -qq >&2 &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
}

if ! bin=$(find_postgres); then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		install_postgres || true
	fi
	if ! bin=$(find_postgres); then
		cat >&2 <<-'EOF'
			no PostgreSQL server on this machine; install one:

			    sudo apt-get install -y postgresql

			or name a running one, in which the tests may create databases:

			    export GATEHOUSE_TEST_POSTGRES=postgres://user:password@host/postgres
		EOF
		exit 3
	fi
fi

# A socket's path may have 107 bytes at most, so never below a long $TMPDIR.
dir=$(mktemp -d /tmp/gatehouse-pg.XXXXXX)

# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
	user=nobody
	if id postgres >/dev/null 2>&1; then
		user=postgres
	fi
	chown "$user" "$dir"
	as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups env "HOME=$dir")
fi

# The server's own folder is the working folder of its commands: the caller's may be closed to them.
server() { (cd "$dir" && ${as[@]+"${as[@]}"} "$@"); }

stop() {
	server "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

server "$bin/initdb" -D "$dir/data" -U gatehouse -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 || {
	cat "$dir/initdb.log" >&2
	exit 1
}
# Durability is of no use here, and tests run in parallel on connections of their own.
options="-k $dir -c listen_addresses='' -c max_connections=200 -c shared_buffers=64MB"
options+=" -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
server "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -o "$options" start >/dev/null || {
	cat "$dir/log" >&2
	exit 1
}

GATEHOUSE_TEST_POSTGRES="postgres://gatehouse@/postgres?host=$dir" "$@"

#!/usr/bin/env bash
# check.sh runs every check that is not a test, and fails after the last one if any failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
check() { # NAME COMMAND [ARG...]
	echo "check: $1"
	"${@:2}" || failed+=("$1")
}

formatted() {
	local files
	files=$(gofmt -l .) || return
	[ -z "$files" ] || {
		printf 'not formatted, run gofmt -w on:\n%s\n' "$files" >&2
		return 1
	}
}

# The measuring programs in bench are a module of their own, outside ./... here.
vet() { go vet ./... && (cd bench && go vet ./...); }

staticcheck() {
	local tool=(go tool "-modfile=$PWD/tools/go.mod" staticcheck)
	"${tool[@]}" ./... && (cd bench && "${tool[@]}" ./...)
}

# Each module's go.mod and go.sum list what its code needs and nothing else.
tidy() {
	local module
	for module in . bench tools tools/oldest interop/dex; do
		(cd "$module" && go mod tidy -diff) || return
	done
}

# Prints the hash of the working tree as it is, committed or not, less the ignored files.
worktree() { GIT_INDEX_FILE=$1/index git add --all . && GIT_INDEX_FILE=$1/index git write-tree; }

# Generated files are what go generate makes of their sources.
fresh() {
	local tmp before after status=0
	tmp=$(mktemp -d) || return
	before=$(worktree "$tmp") && go generate ./... && after=$(worktree "$tmp") || status=1
	rm -rf "$tmp"
	[ $status = 0 ] || return 1
	[ "$before" = "$after" ] || {
		echo "these generated files were out of date and are written anew:" >&2
		git diff-tree --name-status -r "$before" "$after" >&2
		return 1
	}
}

check gofmt formatted
check vet vet
check staticcheck staticcheck
check tidy tidy
check imports go test -count=1 ./internal/arch
check generated fresh

if [ ${#failed[@]} -gt 0 ]; then
	echo "checks that failed: ${failed[*]}" >&2
	exit 1
fi

#!/usr/bin/env bash
# Runs the benchmarks of a login's stages and fails when one makes more allocations than
# scripts/allocations.txt allows it. Times are not looked at: they belong to the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

budget=scripts/allocations.txt
pattern=$(awk '!/^#/ && NF { sub(/\/.*/, "", $1); print "^Benchmark" $1 "$" }' "$budget" | sort -u | paste -sd '|')
go test -run '^$' -bench "$pattern" -benchtime 200x -benchmem ./policy ./policy/mint ./policy/oidc ./callout ./store/spool |
	awk -v budget="$budget" '
		BEGIN {
			while ((getline line < budget) > 0) {
				if (line ~ /^#/ || split(line, f, " ") < 2) continue
				allowed[f[1]] = f[2]
			}
		}
		/^FAIL/ { failed = 1; print }
		/^Benchmark/ {
			name = $1
			sub(/^Benchmark/, "", name)
			sub(/-[0-9]+$/, "", name)
			made = $(NF - 1)
			if (!(name in allowed)) next
			seen[name] = 1
			verdict = "ok"
			if (made > allowed[name]) { verdict = "TOO MANY"; failed = 1 }
			printf "%-9s %4d of %4d  %s\n", verdict, made, allowed[name], name
		}
		END {
			for (name in allowed) if (!(name in seen)) { print "no such benchmark: " name; failed = 1 }
			exit failed
		}'

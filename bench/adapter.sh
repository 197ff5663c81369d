#!/bin/sh
# Adapter of Gatehouse: the binary that $GATEHOUSE names, else the one that make build makes.
bench=$(cd "$(dirname "$0")" && pwd)
exec "$bench/bin/adapter" "${GATEHOUSE:-$bench/../bin/gatehouse}" "$1"

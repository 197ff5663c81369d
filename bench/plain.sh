#!/bin/sh
# Adapter of the yardstick.
exec "$(dirname "$0")/bin/plain" "$1"

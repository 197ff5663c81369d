#!/bin/sh
# Builds the measuring programs and the nats-server they run into bin/.
set -e
cd "$(dirname "$0")"
mkdir -p bin
go build -o bin/ ./storm ./compare ./table ./plain ./adapter github.com/nats-io/nats-server/v2

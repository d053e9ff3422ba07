#!/bin/sh
# Write a minimal Debian 12 root file system with Python as a tar file: rootfs.sh OUTPUT.tar
# Needs root and debootstrap; takes about a minute.
set -eu
output=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase \
  --include=ca-certificates,libnuma1,python3,python3-venv bookworm "$root"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
find "$root/usr/share/doc" ! -type d ! -name copyright -delete
rm -rf "$root"/usr/share/locale/* "$root"/usr/share/man/* "$root"/usr/share/info/*
tar --create --file "$output" --directory "$root" --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* .

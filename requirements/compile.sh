#!/bin/sh
# Compile the images' lock files anew: requirements/compile.sh [uv options, such as --upgrade]. Needs uv; builds nothing.
set -eu
cd "$(dirname "$0")"
lock() {
  output=$1
  shift
  uv pip compile --quiet --generate-hashes --python-version 3.11 --custom-compile-command requirements/compile.sh \
    --output-file "$output.txt" "$@" > /dev/null
}
lock build --universal "$@" build.in
lock operator --universal "$@" --extra operator ../pyproject.toml
lock router --universal "$@" --extra router ../pyproject.toml
lock engine-cpu --python-platform x86_64-manylinux_2_36 "$@" \
  --overrides engine-cpu.overrides --excludes engine-cpu.excludes engine-cpu.in
lock models --python-platform x86_64-manylinux_2_36 "$@" --no-deps models.in

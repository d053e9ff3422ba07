"""Benchmarks on a real cluster with real engines: minutes each, and no part of `make test`."""

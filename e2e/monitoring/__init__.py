"""deploy/monitoring: generated, checked with promtool, and tried on a real cluster with a real Prometheus."""

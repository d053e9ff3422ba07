"""A real Kubernetes on one Linux machine, without Docker: see README.md in this folder."""

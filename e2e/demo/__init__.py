"""`make demo`: from nothing to a hit rate that a chat caused, on real Kubernetes, vLLM and LMCache."""

"""Real vLLM engines and a real LMCache server in a real cluster, under load: causes that a CPU allows."""

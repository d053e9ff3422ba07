"""Operator for LLMCacheService: vLLM engines that share one LMCache KV cache behind a cache-aware router."""

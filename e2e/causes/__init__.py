"""Causes of silent zero or bad cache hits: each is injected, and timed until it is named and until it clears."""

"""Whether the cache saves work: what the samples show, the rules that judge it, and what it saved."""

"""Stands between an LMCache server and its Valkey or Redis, in the server's pod, so that no fault of it gets through.

LMCache's RESP client (lmcache 0.5.6, `lmcache_redis`) connects once and never again; without a connection its look-ups
never end; it waits for ever for a value that was evicted after it was looked up; and after an error in the place of an
answer it stays out of step for good (each measured). The guard always accepts, and always answers in form: where the
store can't, a look-up finds nothing, and what is stored is dropped as if it had been evicted. It also holds the
password and speaks TLS.
"""

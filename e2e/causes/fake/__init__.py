"""A fleet of fake engines and a fake LMCache server that speak the real metrics, behind pods of a real API server."""

"""Decisions as pure functions: given the custom resource, a snapshot and the time, the plan and the status."""

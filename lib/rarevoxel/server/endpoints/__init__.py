"""The host's routes as plain functions that run in worker threads, and our own in place of those that need it."""

"""The protocol without I/O: no tasks, no files, no clock, no randomness (all are arguments)."""

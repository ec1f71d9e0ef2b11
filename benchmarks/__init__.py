"""Benchmarks: how fast a served relay is, seen by a client that is cheap enough not to count."""

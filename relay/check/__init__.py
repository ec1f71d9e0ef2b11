"""The tester: what any Nostr relay does, seen from outside. It uses nothing of our own server."""

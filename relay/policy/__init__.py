"""What this relay accepts: synchronous checks, (event or filter, peer, now) → verdict."""

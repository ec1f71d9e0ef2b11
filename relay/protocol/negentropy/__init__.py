"""Set reconciliation (NIP-77): what two peers have, and have not, in common."""

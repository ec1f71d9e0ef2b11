"""The followers of the log: which subscription wants which new event."""

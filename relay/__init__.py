"""A Nostr relay on Trio: `relay serve` for operators, an importable framework for developers."""

__version__ = "0.1.0"

__all__ = ["__version__"]

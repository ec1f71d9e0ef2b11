"""Where events are kept: one protocol (`api`), one conformance suite, several stores."""

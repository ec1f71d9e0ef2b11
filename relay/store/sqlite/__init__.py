"""The default store: SQLite through APSW, one writing process, many readers."""

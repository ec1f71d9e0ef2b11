"""The only concurrency: connections, subscriptions, ingest and the server, as Trio scopes."""

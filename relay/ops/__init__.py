"""The outermost layer: command line, configuration, logs, signals and the composition root."""

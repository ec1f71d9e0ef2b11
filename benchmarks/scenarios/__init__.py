"""What is measured: one module for each promise about speed, each with a `run`."""

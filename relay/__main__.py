"""`python -m relay` is the command `relay`."""

from relay.ops.cli import main

if __name__ == "__main__":
    main(prog_name="relay")

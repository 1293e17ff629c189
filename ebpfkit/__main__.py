"""`python -m ebpfkit` is the `ebpfkit` command."""

from ebpfkit.cli.main import main

if __name__ == "__main__":
    main()

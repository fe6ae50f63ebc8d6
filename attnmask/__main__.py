"""`python -m attnmask`: the command."""

from attnmask.cli import main

if __name__ == "__main__":
    main()

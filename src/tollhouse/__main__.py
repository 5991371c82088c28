"""`python -m tollhouse` is the command line."""

from tollhouse.cli import main

if __name__ == "__main__":
    main()

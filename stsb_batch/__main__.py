"""`python -m stsb_batch`: the command line."""

from stsb_batch.cli.main import main

if __name__ == "__main__":
    main()

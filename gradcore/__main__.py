"""Run the command line with ``python -m gradcore``."""

import sys

from gradcore.cli import main

if __name__ == "__main__":
    sys.exit(main())

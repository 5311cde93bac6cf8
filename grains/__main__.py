"""`python -m grains` is `grains`."""

import sys

from grains.cli import main

if __name__ == "__main__":
    sys.exit(main())

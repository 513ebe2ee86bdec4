"""`python -m nn ...` is `ownt ...`."""

import sys

from nn.cli import main

sys.exit(main())

"""``python -m tailwise.cli`` is the command ``tailwise``."""

import sys

from tailwise.cli import main

sys.exit(main())

"""``python -m sepo_kit``."""

import sys

from sepo_kit.cli import main

sys.exit(main())

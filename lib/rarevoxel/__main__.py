"""`python -m rarevoxel`: the same as the `rarevoxel` command."""

from __future__ import annotations

import sys

from rarevoxel.cli import main

if __name__ == "__main__":
    sys.exit(main())

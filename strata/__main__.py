"""``python -m strata``."""

from strata.cli.main import main

main()

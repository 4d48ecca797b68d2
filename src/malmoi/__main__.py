"""`python -m malmoi` is `malmoi`. Read next: `malmoi.cli.main`."""

from malmoi.cli.main import main

main()

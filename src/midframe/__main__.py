"""`python -m midframe`."""

from midframe.cli import main

main()

"""`python -m pulseweir` is `pulseweir`."""

from pulseweir.cli import main

main()

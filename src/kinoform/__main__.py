"""`python -m kinoform` is the command line."""

from kinoform.cli.app import main

main()

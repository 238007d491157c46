"""`python -m nextok`: the command line."""

from nextok.cli import main

main()

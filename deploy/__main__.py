"""``python -m deploy``: the command line, for the parts that a node starts itself."""

from .cli import main

main()

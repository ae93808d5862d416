"""`python -m tritonbuild` does what the `tritonbuild` command does."""

from tritonbuild.cli import main

main()

"""The machine where a command runs: this one, or a board over ssh."""

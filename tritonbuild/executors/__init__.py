"""Where things run: roots of other systems, and sandboxes in them."""

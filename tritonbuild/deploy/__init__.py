"""A finished tree onto a board: beside what runs there, checked, then switched to in one rename."""

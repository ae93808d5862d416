"""From recipes and a request to the steps that will be taken; pure."""

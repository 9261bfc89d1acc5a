"""Things to touch in a notebook: each a thin layer over plain functions that draw and compute the same."""

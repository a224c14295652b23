"""Token bucket arithmetic and the shaped relay."""

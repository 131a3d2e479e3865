"""The field's exact and published numbers, measured again with this package."""

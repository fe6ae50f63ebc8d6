"""The algebra: masks as integer sets; simplifying, proving, comparing."""

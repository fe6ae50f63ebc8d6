"""Text to tree: grammar, parser and the tree's node types."""

"""Python functions made from definitions of the language: those of the library and of the zoo."""

from attnmask.functions.call import make_function
from attnmask.functions.signature import Documentation, default_text, documentation

__all__ = ["Documentation", "default_text", "documentation", "make_function"]

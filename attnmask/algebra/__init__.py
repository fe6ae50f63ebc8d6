"""The algebra: masks as integer sets; simplifying, proving, comparing."""

from attnmask.errors import MaskError

try:
    import islpy as _islpy  # noqa: F401  # whether it is there; the modules that use it import it themselves
except ImportError as error:
    raise MaskError("the algebra of masks needs islpy", hint="pip install islpy") from error

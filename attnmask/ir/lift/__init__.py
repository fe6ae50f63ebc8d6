"""From a FlexAttention `mask_mod` to IR: the function is called once, with values that record what is done to them.

Nothing here imports torch: it calls `__torch_function__` of the values that it is given.
"""

from attnmask.ir.lift.trace import Framework, Lifted, lift

__all__ = ["Framework", "Lifted", "lift"]

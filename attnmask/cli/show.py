"""`attnmask show`: the heatmap in the terminal, and the picture."""

from __future__ import annotations

from attnmask.cli import inputs, options
from attnmask.errors import MaskError

_BLOCK = 128
_FEWEST_TILES = 32  # a side: short sequences get smaller tiles, so that there is something to see
_MOST_TILES = 8192  # a side: beyond a million tokens tiles grow


def show(
    expr: options.Expr,
    n: options.Length = "4096",
    kv_len: options.KvLen = None,
    block: options.FittingBlock = None,
    offset: options.Offset = "0",
    heads: options.Heads = None,
    head: options.Head = "0",
    batch: options.Batch = None,
    batch_row: options.BatchRow = "0",
    table: options.Tables = None,
    setting: options.Settings = None,
    png: options.Picture = None,
) -> None:
    """Show a mask as a heatmap.

    A cell is an area of tiles; its shade says how much of it is attended.

    \b
      attnmask show "causal & (window(512) | sink(4))"
      attnmask show "causal & same(doc)" -n 32k --table doc=doc.npy --png packed.png
      attnmask show "heads(:8) & causal | heads(8:) & window(256)" --heads 16 --head 12
      attnmask show "causal & window(1k)" -n 16 --kv-len 8k --offset 8176 --block 16x128
      attnmask show @model.mask --set layer=3
    """
    size = options.lengths(n, kv_len, offset)
    blocks = fitting_block(size) if block is None else inputs.block(block)
    h, b = inputs.number(head, "--head", least=0), inputs.number(batch_row, "--batch-row", least=0)
    n_heads, n_batch = enough(heads, h, "head"), enough(batch, b, "batch row")
    if png is not None:
        from attnmask.view.picture import check_target

        check_target(png)  # before the work, not after it
    text = inputs.program(expr)
    mask = options.mask(text, table, setting)

    from attnmask.cli.consoles import stderr_console, stdout_console, working
    from attnmask.tiles.count import partial_counts
    from attnmask.view.terminal import Heatmap

    with working("sorting out the tiles"):
        tiles = mask.tiles(
            size.q_len, size.kv_len, block=blocks, batch=n_batch, heads=n_heads, q_offset=size.q_offset
        )
        counts = partial_counts(tiles)
    stdout_console().print(Heatmap(tiles, counts, text, b=b, h=h))
    if png is not None:
        from attnmask.view.picture import picture

        with working("drawing"):
            picture(png, tiles, counts, text=text, b=b, h=h)
        stderr_console().print(f"drew {png}", soft_wrap=True)


def fitting_block(size: options.Lengths) -> tuple[int, int]:
    """128, or another power of two where 128 would leave too few tiles to see or too many to list."""
    longest = max(size.q_len, size.kv_len)
    side = min(_BLOCK, 1 << (max(1, longest // _FEWEST_TILES).bit_length() - 1))
    while longest > side * _MOST_TILES:
        side *= 2
    return side, side


def enough(given: str | None, index: int, what: str) -> int | None:
    """How many heads (or batch rows) to sort out: as given, else enough for the one to show."""
    size = options.count(given, "--heads" if what == "head" else "--batch")
    if size is not None and index >= size:
        raise MaskError(f"there is no {what} {index}", hint=f"of {size}, the last is {size - 1}")
    return index + 1 if size is None and index > 0 else size

"""Random mask functions in torch, as Python source, so that a failing one can be read and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

MaskMod = Callable[..., Any]
# Every table has at least as many entries as any index that is written below can reach.
SIZE = 40
_random = torch.Generator().manual_seed(3)


def _draw(low: int, high: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=_random).to(dtype)


NAMESPACE: dict[str, Any] = {
    "torch": torch,
    "doc": torch.sort(_draw(0, 6, (SIZE,), torch.int64)).values,
    "role": _draw(-3, 4, (SIZE,), torch.int32),
    "small": _draw(-128, 128, (SIZE,), torch.int8),
    "octet": _draw(0, 256, (SIZE,), torch.uint8),
    "rows": _draw(0, 9, (2, SIZE), torch.int64),
    "valid": _draw(0, 2, (SIZE,), torch.bool),
    "pairs": _draw(0, 2, (SIZE, SIZE), torch.bool),
    "per_head": _draw(0, 20, (3,), torch.int16),
    "cube": _draw(0, 2, (2, 3, 5, 5), torch.bool),
    "offset": torch.tensor(3),
    "score": torch.rand(SIZE, generator=_random),
    "starts": torch.tensor([0, 3, 4, 11, 20]),
    "flag": torch.tensor(True),
    "seven": torch.tensor(7, dtype=torch.int32),
    "tiny": torch.tensor(-100, dtype=torch.int8),
    "many": torch.tensor(300),
    "few_bits": torch.tensor([-90, 3, 44, 120], dtype=torch.int8),
    "bytes_": torch.tensor([0, 7, 200], dtype=torch.uint8),
}


@dataclass(frozen=True)
class Written:
    """A function's source; `function` is it."""

    source: str

    @property
    def function(self) -> MaskMod:
        made: MaskMod = eval(self.source, dict(NAMESPACE))
        return made


_POSITIONS = ["q", "k", "q", "k", "q", "k", "h", "b"]
_LEAVES = [
    "doc[q]",
    "doc[k]",
    "role[q]",
    "role[k]",
    "small[k]",
    "octet[q]",
    "rows[b, q]",
    "rows[b][k]",
    "rows[:, k][b]",
    "per_head[h]",
    "offset",
    "seven",
    "tiny",
    "many",
    "doc[(q - 5)]",
    "role[torch.clamp(q - k, -SIZE, SIZE - 1)]",
    "doc[doc[q] + 2]",
]
_TRUTHS = [
    "valid[q]",
    "valid[k]",
    "pairs[q, k]",
    "pairs[doc[q], doc[k]]",
    "cube[b, h, q // 8, k // 8]",
    "flag",
    "(score[q] <= score[k])",
    "(score[k] > 0.7)",
    "torch.isin(k, starts)",
    "torch.ones_like(q, dtype=torch.bool)",
    "q.new_zeros((), dtype=torch.bool)",
]
_NUMBERS = [str(n) for n in (-7, -1, 0, 1, 2, 3, 5, 8, 16, 31)]
_BINARY = [
    *("({} + {})", "({} - {})", "({} * {})", "torch.add({}, {})", "torch.sub({}, {})"),
    *("torch.minimum({}, {})", "torch.maximum({}, {})", "({} & {})", "({} | {})", "({} ^ {})"),
    "torch.where({} < 4, {}, 9)",
]
_BY_CONSTANT = [
    *("({} // {})", "({} % {})", "torch.remainder({}, {})", "torch.floor_divide({}, {})"),
    *("torch.div({}, {}, rounding_mode='floor')", "torch.div({}, {}, rounding_mode='trunc')"),
    "torch.fmod({}, {})",
]
_UNARY = [
    *("(-{})", "{}.abs()", "torch.abs({})", "(~{})", "{}.clamp(min=2)", "{}.clamp(1, 6)", "({} << 2)"),
    *("({} >> 1)", "{}.to(torch.int32)", "{}.to(torch.int8)", "{}.to(torch.uint8)", "{}.long()", "(3 - {})"),
    *("({} ** 2)", "(20 // ({}.abs() + 1))", "torch.square({})", "({} * 0.5).floor().long()"),
    *(
        "({} / 4).to(torch.int64)",
        "torch.floor({} / 3).int()",
        "({} * 0.37).long()",
        "(0.61 * {}).ceil().int()",
    ),
    *("torch.searchsorted(starts, {}, right=True)", "torch.sqrt({}.abs().float()).int()"),
    *("(starts <= {}).sum()", "torch.where(starts < {}, starts, 3).amax(0)", "({} == starts).any().int()"),
    *("(few_bits == {}).any().int()", "(bytes_ <= {}).sum()", "torch.isin({}, few_bits).int()"),
    *("torch.where(few_bits > 5, {}, few_bits).sum()", "torch.where({} > 3, small[k], many)"),
    *("octet[q].clamp(max={})", "torch.minimum(small[k], {})"),
    *("(small[:5] + {}).max()", "({}.clone().add_(2).clamp_(max=9))"),
    *("(score[{} % 40] * 7).round().long()", "(1 / (0.5 + {}.abs()) * 9).floor().int()"),
]
_COMPARE = [
    *("({} < {})", "({} <= {})", "({} > {})", "({} >= {})", "({} == {})", "({} != {})"),
    *("torch.lt({}, {})", "torch.eq({}, {})", "({} / 2 < {})"),
]
_LOGIC = [
    *("({} & {})", "({} | {})", "({} ^ {})", "torch.logical_and({}, {})", "torch.logical_or({}, {})"),
    *("torch.logical_xor({}, {})", "({} == {})", "({} + {})", "({} * {})"),
]


def _filled(templates: list[str], *parts: SearchStrategy[str]) -> SearchStrategy[str]:
    """A template with as many parts as it has places."""
    return st.tuples(st.sampled_from(templates), *parts).map(lambda drawn: drawn[0].format(*drawn[1:]))


_positions = st.sampled_from(_POSITIONS)
_leaf = st.one_of(_positions, _positions, st.sampled_from(_LEAVES)).map(
    lambda text: text.replace("SIZE", str(SIZE))
)
_integers = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        _filled(_BINARY, inner, st.one_of(inner, st.sampled_from(_NUMBERS))),
        _filled(_BY_CONSTANT, inner, st.sampled_from([n for n in _NUMBERS if n != "0"])),
        _filled(_UNARY, inner),
    ),
    max_leaves=5,
)
_masks = st.recursive(
    st.one_of(
        _filled(_COMPARE, _integers, st.one_of(_integers, st.sampled_from(_NUMBERS))),
        st.sampled_from(_TRUTHS),
        _filled(["{}.bool()", "{}.to(torch.bool)"], _integers),
    ),
    lambda inner: st.one_of(
        _filled(_LOGIC, inner, inner),
        _filled(["(~{})", "torch.logical_not({})", "({}.int() > 0)"], inner),
        _filled(["torch.where({}, {}, {})"], inner, inner, inner),
    ),
    max_leaves=4,
)
written_masks = _masks.map(lambda body: Written(f"lambda b, h, q, k: {body}"))

"""use_mask: which layer runs under which mask, and how that is undone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from attnmask.compiling import compile
from attnmask.errors import MaskError, did_you_mean
from attnmask.integrations.transformers.attend import ATTRIBUTE, NAME, register
from attnmask.integrations.transformers.call import KV_OFFSET, PADDING
from attnmask.ir.rule_names import names_given
from attnmask.ir.tables import require_bound, table_data
from attnmask.ir.walk import table_names
from attnmask.lifted import lift
from attnmask.mask import Mask

LayerMask = str | Mask | Callable[..., Any] | None
Layers = dict[int, list[nn.Module]]


class AppliedMask:
    """What use_mask has done. `undo()`, or the end of a `with`, puts back masks and implementation."""

    def __init__(self, model: Any, given: dict[nn.Module, Mask | None], implementation: Any) -> None:
        self._model, self._given, self._implementation = model, given, implementation
        self._before = {module: getattr(module, ATTRIBUTE, None) for module in given}
        self._undone = False
        for module, mask in given.items():
            setattr(module, ATTRIBUTE, mask)

    def undo(self) -> None:
        """Does nothing the second time. MaskError when a later use_mask is still there."""
        if self._undone:
            return
        if any(getattr(module, ATTRIBUTE, None) is not mask for module, mask in self._given.items()):
            raise MaskError("another use_mask came after this one", hint="undo that first")
        for module, mask in self._before.items():
            setattr(module, ATTRIBUTE, mask)
        self._model.set_attn_implementation(self._implementation)
        self._undone = True

    def __enter__(self) -> AppliedMask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def use_mask(
    model: PreTrainedModel,
    mask: LayerMask | Mapping[int, LayerMask],
    /,
    **tables: object,
) -> AppliedMask:
    """Runs the attention layers of a transformers model under a mask of yours, until the result is undone.

    The mask takes the place of the model's own, its sliding windows included. Positions count from the first token
    of the cache, padding on the left included; K is the number of positions so far. On top of the mask, keys are
    hidden that attention_mask calls padding, and those that a sliding cache has dropped. Packed rows
    (position_ids that restart) are one row to it: write `& same(doc)` and bind doc.

    A mask may choose from q and k: each layer then chooses in every forward pass, for the queries of that pass alone.

    Args:
        model: a decoder or an encoder whose attention goes through transformers' AttentionInterface.
        mask: a text, a Mask, a mask_mod (b, h, q, k) -> bool, a dict from layer to one of these, or a function of
            the layer. None, and a layer that the dict leaves out, stand for the model's own mask. In a text the
            name `layer` is the layer's number.
        tables: arrays and settings that masks name, bound as in `compile`.

    Returns:
        A handle: call its `undo()`, or use it in a `with`.

    Raises:
        MaskError: when a mask does not compile, a table is missing or not used, a layer does not exist, or the
            model cannot run under it.
    """
    layers = _layers(model)
    for name in (PADDING, KV_OFFSET):
        if name in tables:
            raise MaskError(f"the name '{name}' is taken", hint="call the table something else")
    chosen = _bound(_by_layer(mask, layers), tables)
    implementation = _set_implementation(model)
    return AppliedMask(
        model,
        {module: chosen[number] for number, modules in layers.items() for module in modules},
        implementation,
    )


def _layers(model: Any) -> Layers:
    """The attention modules of each layer of the text model."""
    if not isinstance(model, PreTrainedModel):
        raise MaskError(f"use_mask needs a transformers model, not {type(model).__name__}")
    if model.config.is_encoder_decoder:
        raise MaskError(
            f"{type(model).__name__} has an encoder and a decoder, and use_mask cannot tell their layers apart"
        )
    text = model.config.get_text_config(decoder=True)
    layers: Layers = {}
    for module in model.modules():
        number = getattr(module, "layer_idx", None)
        if not isinstance(number, int) or getattr(module, "config", None) is not text:
            continue
        # What else carries the number of a layer (whole layers, state space models) has no is_causal.
        if hasattr(module, "is_causal"):
            layers.setdefault(number, []).append(module)
    if not layers:
        raise MaskError(f"{type(model).__name__} has no attention layers that use_mask knows how to find")
    return dict(sorted(layers.items()))


def _by_layer(mask: Any, layers: Layers) -> dict[int, LayerMask]:
    if isinstance(mask, Mapping):
        for number in mask:
            if number not in layers:
                raise MaskError(
                    f"there is no attention layer {number!r}",
                    hint=f"layers are {_listed(layers)}, counted from 0",
                )
        return {number: mask.get(number) for number in layers}
    if callable(mask) and _takes_layer(mask):
        return {number: mask(number) for number in layers}
    return dict.fromkeys(layers, mask)


def _listed(layers: Iterable[int]) -> str:
    numbers = list(layers)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _takes_layer(function: Callable[..., Any]) -> bool:
    """Whether a function takes a layer, or the four positions of a mask_mod."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins tell nothing about themselves
        return False
    one, four = (_accepts(signature, count) for count in (1, 4))
    if one == four:
        raise MaskError(
            f"a function of the layer, or of b, h, q and k is expected, and {function!r} takes "
            + ("both" if one else "neither"),
            hint="wrap it: lambda layer: …, or lambda b, h, q, k: …",
        )
    return one


def _accepts(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _bound(masks: Mapping[int, LayerMask], tables: Mapping[str, object]) -> dict[int, Mask | None]:
    """Each layer's mask, complete. Layers that are given one text share one mask."""
    for given in masks.values():
        _require_mask(given)
    made = {given: _mask(given) for given in set(masks.values()) if given is not None}
    names = {name for mask in made.values() for name in _names(mask)}
    for name in tables.keys() - names:
        raise MaskError(f"no mask names '{name}'", hint=did_you_mean(name, names))
    shared: dict[tuple[LayerMask, int | None], Mask] = {}
    found: dict[int, Mask | None] = {}
    for number, given in masks.items():
        if given is None:
            found[number] = None
            continue
        key = given, number if "layer" in made[given].unbound and "layer" not in tables else None
        if key not in shared:
            shared[key] = _complete(made[given], key[1], tables)
        found[number] = shared[key]
    return found


def _require_mask(given: Any) -> None:
    if not (given is None or isinstance(given, str | Mask) or callable(given)):
        raise MaskError(
            f"{type(given).__name__} is not a mask",
            hint="give a text, a Mask, a mask_mod, or None for the model's own",
        )


def _mask(given: str | Mask | Callable[..., Any]) -> Mask:
    if isinstance(given, Mask):
        return given
    return compile(given) if isinstance(given, str) else lift(given)


def _names(mask: Mask) -> set[str]:
    """The tables and settings of a mask, those that simplification removed included."""
    return {*mask.unbound, *table_names(*mask.origins), *names_given(mask.predicate)}


def _complete(mask: Mask, layer: int | None, tables: Mapping[str, object]) -> Mask:
    given = {name: value for name, value in tables.items() if name in _names(mask)}
    for name in names_given(mask.predicate) & given.keys():
        if table_data(name, given[name]).array.ndim:
            raise MaskError(
                f"'{name}' is what the mask chooses by, and must come with q and k",
                hint="use_mask takes tables of positions, and numbers; choose(q, k, …) takes scores and centroids",
            )
    mask = mask.bind(**(given if layer is None else {**given, "layer": layer}))
    if mask.chooses:
        missing = sorted({*mask.unbound, *names_given(mask.predicate)})
        if missing:
            raise MaskError(f"'{missing[0]}' has no value", hint=f"use_mask(…, {missing[0]}=…)")
        return mask
    for root in (mask.predicate, mask.score):
        if root is not None:
            require_bound(root, dict(mask.tables), mask.origins)
    return mask


def _set_implementation(model: PreTrainedModel) -> Any:
    """Makes "attnmask" the implementation of the text model; what was there before, to be put back."""
    register()
    config = model.config
    text = config.get_text_config(decoder=True)
    before = _implementations(config)
    part = next((key for key in config.sub_configs if getattr(config, key, None) is text), None)
    model.set_attn_implementation(NAME if part is None else {part: NAME})
    if text._attn_implementation != NAME:
        raise MaskError(
            f"{type(model).__name__} cannot run under attnmask",
            hint="its attention does not go through transformers' AttentionInterface",
        )
    return before


def _implementations(config: Any) -> Any:
    """The attention implementations of a config and its parts, as set_attn_implementation takes them."""
    parts = {key: part for key in config.sub_configs if (part := getattr(config, key, None)) is not None}
    own = config._attn_implementation
    return {"": own, **{key: _implementations(part) for key, part in parts.items()}} if parts else own

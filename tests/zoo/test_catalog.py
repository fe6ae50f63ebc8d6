"""The catalogue: names, headers, documentation, and what happens when a name is wrong."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import attnmask as am
from attnmask import zoo
from attnmask.functions.kinds import Kind, parameter_kinds
from attnmask.ir.values import Function
from attnmask.zoo.catalog import Entry, header, lookup

ENTRIES = zoo.entries()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_says_what_it_is(entry: Entry) -> None:
    assert entry.title
    assert 2017 <= entry.year <= 2100
    assert re.search(r"arXiv:\d{4}\.\d{5}$", entry.paper) or "no paper" in entry.paper
    assert re.match(r"[\w-]+/[\w.-]+(@[0-9a-f]{7}| branch) ", entry.source) or entry.status == "paper"
    assert all(parameter.meaning for parameter in entry.parameters)
    assert entry.text.endswith("\n")
    assert max(map(len, entry.text.splitlines())) <= 110


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_function_has_documentation_and_signature(entry: Entry) -> None:
    function = getattr(zoo, entry.name)
    assert function.__name__ == entry.name
    assert function.__module__ == "attnmask.zoo"
    for fact in (entry.title, entry.paper, entry.source, entry.notes):
        assert fact in function.__doc__
    signature = inspect.signature(function)
    assert list(signature.parameters) == [parameter.name for parameter in entry.parameters]
    for parameter in entry.parameters:
        given = signature.parameters[parameter.name].default
        assert (given is inspect.Parameter.empty) == (parameter.default is None)
        assert f"{parameter.name}: {parameter.meaning}" in function.__doc__


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_defaults_are_as_good_as_given(entry: Entry) -> None:
    """A default shown in the signature means the same when it is passed."""
    function = getattr(zoo, entry.name)
    parameters = inspect.signature(function).parameters
    bound = lookup(f"zoo.{entry.name}")
    assert bound is not None
    assert isinstance(bound.value, Function)
    kinds = parameter_kinds(bound.value)
    required: dict[str, object] = {
        name: "i" if kinds[name] in (Kind.TOKENS, Kind.FLAGS) else 8
        for name, p in parameters.items()
        if p.default is p.empty
    }
    shown = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    assert function(**required) == function(**required, **shown)


def test_defaults_of_signatures() -> None:
    assert str(inspect.signature(zoo.mistral)) == "(window=4096) -> attnmask.mask.Mask"
    assert inspect.signature(zoo.longlora_roll).parameters["group"].default == "max(K // 4, 1)"
    assert inspect.signature(zoo.natten).parameters["is_causal"].default is False
    assert inspect.signature(zoo.star_attention).parameters["anchor"].default == -1


# Numbers that a paper or its code sets; where these say nothing, an argument is needed.
DEFAULTS = {
    "delta_pages": {"recent": 8, "page": 16},
    "flex_prefill": {"block": 128},
    "kinetics": {"block": 16, "sink": 4},
    "minference": {"verticals": 1000, "slashes": 6096, "rows": 64, "sinks": 30, "local": 100},
    "mra": {"block": 32, "band": 0, "first": 0},
    "nsa": {"n": 16, "block": 64, "kernel": 32, "stride": 16, "init": 1, "local": 2},
    "pbs_attn": {"block": 128, "segment": 256},
    "proxy_attn": {"stride": 4, "block": 128},
    "quest": {"page": 16},
    "seer_attention": {"block": 64},
    "seer_decode": {"block": 64},
    "snapkv": {"rows": 256, "width": 7, "sinks": 4, "local": 128},
    "sparsed": {"block": 128},
    "xattention": {"stride": 8, "block": 128},
    "bigbird": {"block": 64, "random": 3, "seed": 0},
    "gemma2": {"window": 4096},
    "gemma3": {"window": 1024, "pattern": 6},
    "halonet": {"block": 8, "halo": 3},
    "infini_attention": {"segment": 2048},
    "landmark": {"mem_freq": 50},
    "llama4": {"chunk": 8192, "pattern": 4},
    "longformer": {"window": 256, "dilation": 1},
    "longlive": {"frame": 1560, "chunk": 3, "window": 12, "sink": 3},
    "maxvit_block": {"window": 7},
    "maxvit_grid": {"grid": 7},
    "mistral": {"window": 4096},
    "moa": {"beta_numerator": 0, "beta_denominator": 1, "block": 64},
    "natten": {"window": 7, "stride": 1, "dilation": 1},
    "orion_msp": {"special": 6, "window": 4},
    "sparse_transformer_fixed": {"stride": 128, "block": 32, "groups": 4, "summary": 1},
    "sparse_transformer_local": {"stride": 128},
    "sparse_transformer_strided": {"stride": 128},
    "star_attention": {"block": 32768, "anchor": -1},
    "streaming_llm": {"sinks": 4, "recent": 2000},
    "swin": {"window": 7, "shift": 0},
}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_numbers_are_the_published_ones(entry: Entry) -> None:
    parameters = inspect.signature(getattr(zoo, entry.name)).parameters
    numbers = {name: p.default for name, p in parameters.items() if type(p.default) is int}
    numbers.pop("text", None)  # how much text there is, nothing of the paper's
    assert numbers == DEFAULTS.get(entry.name, {})


def test_tab_completion_lists_every_entry() -> None:
    assert set(dir(zoo)) == {entry.name for entry in ENTRIES} | {"Entry", "entries"}
    assert list(ENTRIES) == sorted(ENTRIES, key=lambda entry: entry.name)


def test_entries_combine_with_everything_else() -> None:
    expected = am.compile("causal & q - k < 128 & k >= 1")
    assert am.compile("zoo.mistral(window=128) & ~sink(1)") == expected
    assert zoo.mistral(window=128) & ~am.library.sink(1) == expected
    assert am.compile("heads(:2) & zoo.mistral(8) | heads(2:) & zoo.streaming_llm()").dense(9, heads=4).any()


def test_a_layer_may_be_bound_later() -> None:
    mask = zoo.gemma2()
    assert mask.unbound == ("layer",)
    assert mask.bind(layer=3) == zoo.gemma2(layer=3)
    assert am.compile("zoo.gemma2(window=64)", layer=2) == zoo.gemma2(2, 64)


def test_definitions_inside_a_file_are_its_own() -> None:
    with pytest.raises(am.MaskError, match="unknown name 'neighbours'"):
        am.compile("zoo.bigbird() & neighbours(1, 2) == 0")


def test_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(am.MaskError) as caught:
        am.compile("causal & zoo.streming_llm(4)")
    assert caught.value.message == "there is no mask 'streming_llm' in the zoo"
    assert caught.value.hint == "did you mean 'streaming_llm'?"
    assert caught.value.span is not None
    assert caught.value.span.start == len("causal & ")
    with pytest.raises(AttributeError, match="did you mean 'streaming_llm'"):
        _ = zoo.streming_llm


@pytest.mark.parametrize("name", ["zoo.", "zoo.zoo.mistral", "zoo.../mistral", "zoo.qqq"])
def test_strange_names_are_unknown(name: str) -> None:
    with pytest.raises(am.MaskError, match="there is no mask"):
        lookup(name)


def test_other_packages_are_not_the_zoo() -> None:
    assert lookup("museum.mistral") is None
    with pytest.raises(am.MaskError, match=r"unknown name 'museum\.mistral'"):
        am.compile("museum.mistral()")


def test_faults_are_shown_in_the_users_text() -> None:
    with pytest.raises(am.MaskError) as caught:
        am.compile("zoo.mistral(window=causal)")
    assert caught.value.span is not None
    assert (caught.value.span.start, caught.value.span.end) == (19, 25)
    with pytest.raises(am.MaskError, match="has no parameter 'sink'"):
        zoo.streaming_llm(sink=4)
    with pytest.raises(am.MaskError, match="division by zero"):
        zoo.llama4(layer=0, chunk=0)


GOOD = "# title: t\n# paper: p\n# year: 2020\n# source: s\n# causal: yes\n# status: code\n"


def test_header_is_read_with_its_continuations() -> None:
    read = header(f"{GOOD}# notes: one\n#   two: three\n\n# not: this\ndef f() = all\n")
    assert read["notes"] == "one two: three"
    assert read["causal"] == "yes"
    assert "not" not in read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("# year: 2020\n", ""), "lacks year"),
        (GOOD.replace("yes", "perhaps"), "none of the words"),
        (GOOD + "# colour: red\n", "colour"),
        (GOOD + "# title: again\n", "again"),
    ],
)
def test_wrong_headers_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        header(text)


def test_a_file_is_not_read_until_it_is_named() -> None:
    program = (
        "import attnmask; from attnmask.zoo.catalog import _definition as read;"
        "attnmask.compile('causal & window(4)'); print(read.cache_info().currsize);"
        "attnmask.compile('zoo.mistral()'); print(read.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]

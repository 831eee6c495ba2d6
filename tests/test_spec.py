import pytest
from hypothesis import given, strategies as st

from gradcore.spec import Spec, parse_spec

literals = st.one_of(
    st.integers(-100, 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
names = st.sampled_from(["a", "std", "he_normal", "x1"])


@given(names, st.lists(literals, max_size=3), st.dictionaries(names, literals, max_size=3))
def test_what_is_printed_is_what_is_read(name, args, kwargs):
    spec = Spec(name, tuple(args), kwargs)
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("relu", Spec("relu")),
        (" ReLU ", Spec("relu")),
        ("normal(0.01)", Spec("normal", (0.01,))),
        ("uniform(-0.05, 0.05)", Spec("uniform", (-0.05, 0.05))),
        ("mse(reduction='sum')", Spec("mse", (), {"reduction": "sum"})),
        ("relu()", Spec("relu")),
    ],
)
def test_forms(text, spec):
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "", "normal(", "normal(0.01", "normal(x)", "a.b(1)", "__import__('os').getcwd()", "f(*[1])", "f(**{'a': 1})",
        "1", "normal(0.01);relu", "f(lambda: 1)", "f(1)(2)", "a b", "relu\x00", "(" * 5000, "f(" + "-" * 5000 + "1)",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="cannot read"):
        parse_spec(text)


@pytest.mark.parametrize("thing", [None, 3, b"relu", ["relu"]])
def test_only_text_is_read(thing):
    with pytest.raises(TypeError, match="expected a name"):
        parse_spec(thing)


def test_arguments_that_do_not_fit_are_answered_with_those_that_do():
    def normal(shape, std=0.05, *, rng):
        raise AssertionError("not called")

    bound = parse_spec("normal(0.01)").bind(normal, (1, 1), rng=0)
    assert bound.arguments == {"shape": (1, 1), "std": 0.01, "rng": 0}
    for text in ("normal(1, 2)", "normal(mean=1)", "normal(rng=1)"):
        with pytest.raises(ValueError, match=r"normal takes \(std=0.05\)"):
            parse_spec(text).bind(normal, (1, 1), rng=0)

"""RE2's dialect: by RE2 itself, and on Python's `re` where there is none."""

import pytest

from chandlery.controlplane.schema import regex
from chandlery.controlplane.schema.regex import RegexError, compile_re2


@pytest.fixture(params=["re2", "re"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "re":
        monkeypatch.setattr(regex, "_re2", lambda: None)
    compile_re2.cache_clear()
    yield request.param
    compile_re2.cache_clear()


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^a$", "a", True),
        ("^a$", "a\n", False),  # $ is the very end
        ("(?m)^b$", "a\nb\n", True),
        ("a.b", "a\nb", False),
        ("(?s)a.b", "a\nb", True),
        (r"\Aab\z", "ab", True),
        (r"^\pL+$", "äß", True),
        (r"^\d+$", "٣", False),  # Perl classes are ASCII
        (r"^[[:alpha:]_]+$", "ab_", True),
        (r"^[^\D5]+$", "123", True),
        (r"^[^\D5]+$", "15", False),
        (r"^\Qa.b\E$", "a.b", True),
        (r"^\Qa.b\E$", "axb", False),
        ("x(a(?i)b|c)d", "xaBd", True),
        ("x(a(?i)b|c)d", "xAbd", False),
        ("x(a(?i)b|c)d", "xCd", True),
        ("(?P<n>a)(?P<m>b)", "ab", True),
        (r"^\x{1F600}$", "\U0001f600", True),
        ("a{,2}", "a{,2}", True),  # not a repetition there
    ],
)
def test_patterns_match_as_re2_does(pattern: str, text: str, matches: bool) -> None:
    assert (compile_re2(pattern).search(text) is not None) is matches


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("((", "missing closing ): `((`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?P<n>a)(?P<n>b)", "duplicate capture group name: `n`"),
    ],
)
def test_patterns_that_re2_refuses(pattern: str, said: str) -> None:
    with pytest.raises(RegexError) as caught:
        compile_re2(pattern)
    assert str(caught.value) == said


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "a*a*a*a*a*b"])
def test_no_pattern_takes_longer_than_in_proportion_to_its_text(engine, pattern):
    """With backtracking each of these would outlive the test's time limit by years."""
    text = "a" * 50_000 + "!" if "a" in pattern else "x" * 50_000
    assert compile_re2(pattern).search(text) is None


def test_texts_are_found_and_listed():
    pattern = compile_re2("[0-9]+")
    assert pattern.search("ä12b34").group() == "12"
    assert [match.group() for match in pattern.finditer("ä12b34")] == ["12", "34"]


def test_halves_of_surrogate_pairs_are_no_reason_to_fail(engine):
    found = compile_re2("b+").search("a\ud800bb")
    assert found.group() == "bb"
    assert [match.group() for match in compile_re2("b").finditer("\ud800bb")] == ["b", "b"]


def test_scripts_are_classes(engine):
    assert compile_re2(r"^\p{Greek}+$").search("αβγ") is not None

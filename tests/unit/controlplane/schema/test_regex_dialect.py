"""RE2's dialect on Python's `re`."""

import pytest

from chandlery.controlplane.schema.regex import RegexError, compile_re2


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

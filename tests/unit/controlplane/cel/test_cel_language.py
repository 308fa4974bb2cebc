"""What expressions mean, and how those that mean nothing are refused."""

from typing import Any

import pytest

from chandlery.controlplane.cel import DYN, CelCostError, CelError, CompileError, compile_expression
from chandlery.controlplane.cel.values import Duration, UInt


def run(source: str, **values: Any) -> Any:
    return compile_expression(source, dict.fromkeys(values, DYN)).evaluate(values)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("1 + 2 * 3 - 4 / 2", 5),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("0x1F", 31),
        ("size('żółw')", 4),
        ("r'\\d' + \"\\u00e9\"", "\\dé"),
        ("b'\\xff' == b'\\377'", True),
        ("1u + 2u", UInt(3)),
        ("duration('1h') + duration('30m') == duration('90m')", True),
        ("timestamp('2024-02-29T23:30:00Z').getHours('+02:00')", 1),
        ("timestamp('2024-02-29T00:00:00Z').getDayOfYear()", 59),
        ("true || 1 / 0 > 1", True),
        ("1 / 0 > 1 || true", True),
        ("[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2)", True),
        ("[1, 0].exists(x, 1 / x == 1)", True),
        ("[1, 2, 2].exists_one(x, x == 2)", False),
        ("{'a': 1, 'b': 2}.map(k, k).sort()", ["a", "b"]),
        ("{'a': 1}.all(k, v, k == 'a' && v == 1)", True),
        ("[1, 2].transformMap(i, v, v * 10)", {0: 10, 1: 20}),
        ("[3, 1, 2].sortBy(x, -x)", [3, 2, 1]),
        ("[1, 2, 3].filter(x, x > 1).map(x, x * x)", [4, 9]),
        ("dyn(1) == 1.0 && dyn(1) == 1u", True),
        ("dyn([1, 2]) == [1.0, 2.0]", True),
        ("type(1) == int && type([]) == list", True),
        ("'b' in {'a': 1} ? 'yes' : 'no'", "no"),
        ("{'a': {'b': 1}}.?a.?c.orValue(7)", 7),
        ("[1, 2][?5].hasValue()", False),
        ("optional.of(3).optMap(x, x + 1).value()", 4),
        ("[?optional.none(), ?optional.of(1)]", [1]),
        ("'a-b-c'.split('-', 2)", ["a", "b-c"]),
        ("'%s %d %.2f %x %s'.format(['x', 1, 2.5, 255, [1, true]])", "x 1 2.50 ff [1, true]"),
        (
            "'%s %s'.format([['x', 2.5, b'y', null], {'k': duration('90s')}])",
            '["x", 2.500000, b"y", null] {"k":duration("90s")}',
        ),
        ("'%f %.1f %f'.format([1234567.5, 0.25, double('Infinity')])", "1,234,567.500000 0.2 ∞"),
        ("'%e %.2e'.format([1052.0329, 0.000123])", "1.052033×10⁰³ 1.23×10⁻⁰⁴"),
        ("string(timestamp('2020-01-01T00:00:00+02:00') + duration('1h'))", "2020-01-01T01:00:00+02:00"),
        ("timestamp('2020-01-01T00:30:00+02:00').getHours()", 22),
        ("dyn([1.5, 1.5]).sum()", 3.0),
        ("optional.ofNonZeroValue(timestamp('0001-01-01T00:00:00Z')).hasValue()", False),
        ("url('https://a/with space').getEscapedPath()", "/with%20space"),
        ("url('https://a/with%2Fslash').getEscapedPath()", "/with%2Fslash"),
        ("'abc'.indexOf('c', 9) + 'abc'.lastIndexOf('c', 9)", -2),
        ("'hello'.substring(1, 3) + 'ABC'.lowerAscii()", "elabc"),
        ("'foo 12 bar 345'.findAll('[0-9]+')", ["12", "345"]),
        ("sets.equivalent([1, 2, 2], [2, 1])", True),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("string(timestamp('2020-01-01T00:00:00.5Z'))", "2020-01-01T00:00:00.5Z"),
        ("string(1000000.0)", "1e+06"),
        ("int('-5') + int(3.9)", -2),
        (
            "quantity('1.5Gi').isGreaterThan(quantity('1G')) && quantity('5m').add(quantity('1995m')).asInteger() == 2",
            True,
        ),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsIP('11.0.0.1')", True),
        ("ip.isCanonical('::1') && !ip.isCanonical('0::1') && ip('::1').family() == 6", True),
        ("url('https://u@a.b:8443/p%20q?x=1&x=2').getQuery()['x']", ["1", "2"]),
        ("semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v1.2', true).patch() == 0", True),
        ("format.named('labelValue').hasValue() && !format.named('nonsense').hasValue()", True),
        ("[{'z': 0}].exists(y, y.z == 0)", True),
    ],
)
def test_expressions_have_their_value(source: str, result: Any) -> None:
    value = run(source)
    assert value == result
    assert type(value) is type(result)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("[1][1]", "index out of bounds: 1"),
        ("{'a': 1}['b']", "no such key: b"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("dyn(1) < dyn('a')", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[].max()", "max called on empty list"),
        ("quantity('1x').sign() == 1", "found no matching overload"),
        ("quantity('1x').isInteger()", "quantities must match the regular expression"),
    ],
)
def test_failures_say_what_went_wrong(source: str, said: str) -> None:
    with pytest.raises((CelError, CompileError)) as caught:
        run(source)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        ("x + y", "undeclared reference to 'x' (in container '')"),
        ("[1, 'a']", "<input>:1:5: expected type 'int' but found 'string'"),
        ("true ? 1 : 'a'", "found no matching overload for '_?_:_' applied to '(bool, int, string)'"),
        ("1.all(x, true)", "token recognition error"),
        (
            "(1).all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1].all(1, true)", "argument must be a simple name"),
        ("has(1)", "invalid argument to has() macro"),
        ("'a'.matches('[')", "invalid matches argument"),
        ("timestamp('yesterday')", "invalid timestamp argument"),
        ("1 +", "mismatched input '<EOF>' expecting {'[', '{', '('"),
        ("1 2", "extraneous input '2' expecting <EOF>"),
        ("while", "reserved identifier: while"),
        ("'a", "token recognition error at: ''a'"),
        ("9223372036854775808", "invalid int literal"),
    ],
)
def test_what_does_not_compile_is_shown_in_place(source: str, problem: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_expression(source, {})
    if problem == "token recognition error":
        assert "ERROR: <input>:1:" in str(caught.value)
    else:
        assert problem in str(caught.value)


def test_all_problems_of_an_expression_are_told() -> None:
    with pytest.raises(CompileError) as caught:
        compile_expression("a == 1 &&\n  b == 2", {})
    assert str(caught.value) == (
        "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a == 1 &&\n | ^\n"
        "ERROR: <input>:2:3: undeclared reference to 'b' (in container '')\n |   b == 2\n | ..^"
    )


def test_variables_are_given_by_name_and_reported() -> None:
    program = compile_expression("a.b == c", {"a": DYN, "c": DYN, "unused": DYN})
    assert program.names == {"a", "c"}
    assert program.evaluate({"a": {"b": None}, "c": None}) is True
    assert program.evaluate({"a": {"b": 1}, "c": 2, "unused": 0}) is False


def test_an_expression_that_costs_too_much_is_stopped() -> None:
    program = compile_expression("l.all(a, l.all(b, l.all(c, a + b + c >= 0)))", {"l": DYN})
    with pytest.raises(CelCostError):
        program.evaluate({"l": list(range(200))})


def test_durations_compare_by_length() -> None:
    assert run("d > duration('59s')", d=Duration(60 * 10**9)) is True

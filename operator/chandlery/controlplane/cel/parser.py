"""Tokens to a syntax tree, macros included. Source: the CEL language definition, "Syntax" and "Macros"."""

from __future__ import annotations

from chandlery.controlplane.cel.ast import (
    Call,
    Comprehension,
    Const,
    Expr,
    Ident,
    ListExpr,
    MapExpr,
    Select,
    StructExpr,
)
from chandlery.controlplane.cel.errors import CompileError, deep_stack
from chandlery.controlplane.cel.lexer import RESERVED, Token, tokenize
from chandlery.controlplane.cel.values import UInt

_EXPECTED = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_RELATIONS = frozenset(("<", "<=", ">=", ">", "==", "!=", "in"))
_STARTS = frozenset(("LITERAL", "IDENT", "(", "[", "{", ".", "-", "!"))
"""What an expression can begin with."""
_FOLLOWS = frozenset(("EOF", ")", "]", "}", ",", ":", "?", "||", "&&", "+", "*", "/", "%", *_RELATIONS))
"""What can stand behind an expression, and nowhere else."""
_KEYWORDS = frozenset(("true", "false", "null", "in"))
_DEPTH = 250
_LONGEST = 100_000
_ACCUMULATORS = frozenset(("__result__", "@result"))
_ONE_VARIABLE = {
    ("all", 2): "all", ("exists", 2): "exists", ("exists_one", 2): "exists_one", ("existsOne", 2): "exists_one",
    ("map", 2): "map", ("map", 3): "map", ("filter", 2): "filter",
}  # fmt: skip
_TWO_VARIABLES = {
    ("all", 3): "all2", ("exists", 3): "exists2", ("exists_one", 3): "exists_one2", ("existsOne", 3): "exists_one2",
    ("transformList", 3): "transformList", ("transformList", 4): "transformList", ("transformMap", 3): "transformMap",
    ("transformMap", 4): "transformMap", ("transformMapEntry", 3): "transformMapEntry",
    ("transformMapEntry", 4): "transformMapEntry",
}  # fmt: skip


class _StopError(Exception):
    """Parsing can't go on."""


def parse(source: str) -> Expr:
    """The tree of an expression. Raises CompileError."""
    if len(source) > _LONGEST:
        raise CompileError(
            source[:80], [(-1, f"expression code point size exceeds limit: size: {len(source)}, limit {_LONGEST}")]
        )
    tokens, problems = tokenize(source)
    parser = _Parser(tokens)
    with deep_stack():
        try:
            expr = parser.expression()
            parser.finish()
        except _StopError:
            pass
    if problems or parser.problems:
        raise CompileError(source, problems + parser.problems)
    return expr


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.chained = {"relation": 0, "calc": 0, "member": 0}
        """How many operators of a kind stand before what is read, here and outside: each nests the tree as deep."""
        self.recovering = False
        self.problems: list[tuple[int, str]] = []

    # -- tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != "EOF":
            self.at += 1
            self.recovering = False
        return token

    def take(self, kind: str) -> Token | None:
        return self.next() if self.tokens[self.at].kind == kind else None

    def syntax(self, offset: int, message: str) -> None:
        """Note a syntax error, unless it only follows from the one before (nothing was read in between)."""
        if not self.recovering:
            self.problems.append((offset, f"Syntax error: {message}"))
        self.recovering = True

    def fail(self, offset: int, message: str) -> Expr:
        """Note a problem of a macro or a literal; parsing goes on with a placeholder."""
        self.problems.append((offset, message))
        return Const(offset, None)

    def expect(self, kind: str) -> Token:
        """The token of this kind; a single token too many or missing is told and passed over."""
        token = self.token
        if token.kind == kind:
            return self.next()
        if self.tokens[min(self.at + 1, len(self.tokens) - 1)].kind == kind:
            self.syntax(token.offset, f"extraneous input '{token.text}' expecting '{kind}'")
            self.at += 1
            return self.next()
        if token.kind in (_STARTS if kind == ":" else _FOLLOWS):
            self.syntax(token.offset, f"missing '{kind}' at '{token.text}'")
            return Token(kind, "", token.offset)
        self.syntax(token.offset, f"mismatched input '{token.text}' expecting '{kind}'")
        raise _StopError

    def finish(self) -> None:
        token = self.token
        if token.kind != "EOF":
            last = self.tokens[self.at + 1].kind == "EOF"
            what = "extraneous" if last else "mismatched"
            self.syntax(token.offset, f"{what} input '{token.text}' expecting <EOF>")

    # -- grammar

    def expression(self) -> Expr:
        self.depth += 1
        self._check_depth()
        condition = self.disjunction()
        question = self.take("?")
        if question is not None:
            if_true = self.disjunction()
            self.expect(":")
            if_false = self.expression()
            condition = Call(question.offset, "_?_:_", None, [condition, if_true, if_false])
        self.depth -= 1
        return condition

    def _check_depth(self, kind: str = "") -> None:
        if kind:
            self.chained[kind] += 1
        if self.depth + max(self.chained.values()) > _DEPTH:
            self.problems = [(-1, f"expression recursion limit exceeded: {_DEPTH}")]
            raise _StopError

    def disjunction(self) -> Expr:
        terms, operators = [self.conjunction()], []
        while operator := self.take("||"):
            operators.append(operator.offset)
            terms.append(self.conjunction())
        return _balanced("_||_", terms, operators)

    def conjunction(self) -> Expr:
        terms, operators = [self.relation()], []
        while operator := self.take("&&"):
            operators.append(operator.offset)
            terms.append(self.relation())
        return _balanced("_&&_", terms, operators)

    def relation(self) -> Expr:
        before, left = self.chained["relation"], self.sum()
        while self.token.kind in _RELATIONS:
            operator = self.next()
            self._check_depth("relation")
            name = "@in" if operator.kind == "in" else f"_{operator.kind}_"
            left = Call(operator.offset, name, None, [left, self.sum()])
        self.chained["relation"] = before
        return left

    def sum(self) -> Expr:
        before, left = self.chained["calc"], self.product()
        while self.token.kind in ("+", "-"):
            operator = self.next()
            self._check_depth("calc")
            left = Call(operator.offset, f"_{operator.kind}_", None, [left, self.product()])
        self.chained["calc"] = before
        return left

    def product(self) -> Expr:
        before, left = self.chained["calc"], self.unary()
        while self.token.kind in ("*", "/", "%"):
            operator = self.next()
            self._check_depth("calc")
            left = Call(operator.offset, f"_{operator.kind}_", None, [left, self.unary()])
        self.chained["calc"] = before
        return left

    def unary(self) -> Expr:
        first = self.token
        if first.kind not in ("!", "-"):
            return self.member()
        count = 0
        while self.token.kind == first.kind:
            follow = self.tokens[self.at + 1]
            if first.kind == "-" and _is_number(follow):
                break
            self.next()
            count += 1
        operand = self.member()
        if count % 2:
            return Call(first.offset, "!_" if first.kind == "!" else "-_", None, [operand])
        return operand

    def member(self) -> Expr:
        before, expr = self.chained["member"], self.primary()
        while True:
            if dot := self.take("."):
                self._check_depth("member")
                expr = self._dotted(expr, dot)
            elif bracket := self.take("["):
                self._check_depth("member")
                optional = self.take("?") is not None
                index = self.expression()
                self.expect("]")
                expr = Call(bracket.offset, "_[?_]" if optional else "_[_]", None, [expr, index])
            else:
                self.chained["member"] = before
                return expr

    def _dotted(self, expr: Expr, dot: Token) -> Expr:
        optional = self.take("?") is not None
        name = self.token
        if name.kind != "IDENT":
            if name.text in _KEYWORDS:
                self.syntax(name.offset, f"mismatched input '{name.text}' expecting IDENTIFIER")
            else:
                text = "" if name.kind == "EOF" else name.text
                self.syntax(name.offset, f"no viable alternative at input '.{text}'")
            raise _StopError
        self.next()
        if optional:
            return Call(dot.offset, "_?._", None, [expr, Const(name.offset, name.text)])
        opening = self.take("(")
        if opening is None:
            if self.token.kind == "{" and (qualified := _qualified(expr)):
                return self._struct(f"{qualified}.{name.text}")
            return Select(dot.offset, expr, name.text)
        args = self._arguments(")")
        return self._receiver_call(expr, name, opening, args)

    def primary(self) -> Expr:
        token = self.token
        if token.kind not in _STARTS:
            follow = self.tokens[min(self.at + 1, len(self.tokens) - 1)]
            if follow.kind not in _STARTS:
                self.syntax(token.offset, f"mismatched input '{token.text}' expecting {_EXPECTED}")
                if token.kind not in _FOLLOWS:
                    raise _StopError
                return Const(token.offset, None)
            self.syntax(token.offset, f"extraneous input '{token.text}' expecting {_EXPECTED}")
            self.at += 1
        token = self.next()
        kind = token.kind
        if kind == "LITERAL":
            return self._literal(token, token.value, token.offset)
        if kind == "-" and _is_number(self.token):
            number = self.next()
            value = number.value
            return self._literal(number, -value, token.offset, negative=True)
        if kind == "(":
            expr = self.expression()
            self.expect(")")
            return expr
        if kind == "[":
            return self._list(token)
        if kind == "{":
            return self._map(token)
        leading = ""
        if kind == ".":
            leading = "."
            token = self.next()
            kind = token.kind
        if kind == "IDENT":
            return self._name(token, leading)
        self.syntax(token.offset, f"mismatched input '{token.text}' expecting IDENTIFIER")
        raise _StopError

    def _literal(self, token: Token, value: object, offset: int, *, negative: bool = False) -> Expr:
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            return self.fail(offset, "invalid int literal")
        if negative and type(token.value) is UInt:
            return self.fail(offset, "invalid uint literal")
        return Const(offset, value)

    def _name(self, token: Token, leading: str) -> Expr:
        if token.text in RESERVED:
            self.problems.append((token.offset, f"reserved identifier: {token.text}"))
        opening = self.take("(")
        if opening is None:
            if self.token.kind == "{":
                return self._struct(leading + token.text)
            return Ident(token.offset, leading + token.text)
        args = self._arguments(")")
        if token.text == "has" and len(args) == 1:
            target = args[0]
            if isinstance(target, Select) and not target.test:
                return Select(target.offset, target.operand, target.field, test=True)
            return self.fail(target.offset, "invalid argument to has() macro")
        return Call(opening.offset, leading + token.text, None, args)

    def _arguments(self, closing: str) -> list[Expr]:
        args: list[Expr] = []
        if self.take(closing):
            return args
        while True:
            args.append(self.expression())
            if not self.take(","):
                break
        self.expect(closing)
        return args

    def _list(self, opening: Token) -> Expr:
        elements: list[Expr] = []
        optional: set[int] = set()
        while self.token.kind != "]":
            if self.take("?"):
                optional.add(len(elements))
            elements.append(self.expression())
            if not self.take(","):
                break
        self.expect("]")
        return ListExpr(opening.offset, elements, frozenset(optional))

    def _map(self, opening: Token) -> Expr:
        entries: list[tuple[Expr, Expr, bool]] = []
        while self.token.kind != "}":
            optional = self.take("?") is not None
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression(), optional))
            if not self.take(","):
                break
        self.expect("}")
        return MapExpr(opening.offset, entries)

    def _struct(self, name: str) -> Expr:
        opening = self.expect("{")
        fields: list[tuple[str, Expr, bool]] = []
        while self.token.kind != "}":
            optional = self.take("?") is not None
            field = self.expect("IDENT")
            self.expect(":")
            fields.append((field.text, self.expression(), optional))
            if not self.take(","):
                break
        self.expect("}")
        return StructExpr(opening.offset, name, fields)

    # -- macros

    def _receiver_call(self, target: Expr, name: Token, opening: Token, args: list[Expr]) -> Expr:
        shape = (name.text, len(args))
        offset = opening.offset
        if (kind := _ONE_VARIABLE.get(shape)) is not None:
            var = self._variable(args[0], short=name.text not in ("map", "filter"))
            if len(args) == 3:
                return Comprehension(offset, kind, target, var, args[2], condition=args[1])
            return Comprehension(offset, kind, target, var, args[1])
        if (kind := _TWO_VARIABLES.get(shape)) is not None:
            var, var2 = (self._variable(arg, simple=True) for arg in args[:2])
            if var and var == var2:
                return self.fail(args[1].offset, f"duplicate variable name: {var}")
            condition = args[2] if len(args) == 4 else None
            return Comprehension(offset, kind, target, var, args[-1], var2=var2, condition=condition)
        if shape in (("optMap", 2), ("optFlatMap", 2)):
            return self._optional_map(target, name.text, offset, args)
        if shape == ("sortBy", 2):
            var = self._variable(args[0])
            return Comprehension(offset, "sortBy", target, var, args[1])
        return Call(offset, name.text, target, args)

    def _variable(self, arg: Expr, *, short: bool = False, simple: bool = False) -> str:
        if not isinstance(arg, Ident) or arg.name.startswith("."):
            self.fail(
                arg.offset, "argument must be a simple name" if short or simple else "argument is not an identifier"
            )
            return ""
        if arg.name in _ACCUMULATORS:
            self.fail(arg.offset, "iteration variable overwrites accumulator variable")
        return arg.name

    def _optional_map(self, target: Expr, name: str, offset: int, args: list[Expr]) -> Expr:
        if not isinstance(args[0], Ident):
            return self.fail(args[0].offset, f"{name}() variable name must be a simple identifier")
        value = Call(offset, "value", target, [])
        body: Expr = Comprehension(offset, "bind", value, args[0].name, args[1])
        if name == "optMap":
            body = Call(offset, "optional.of", None, [body])
        present = Call(offset, "hasValue", target, [])
        return Call(offset, "_?_:_", None, [present, body, Call(offset, "optional.none", None, [])])


def _balanced(name: str, terms: list[Expr], operators: list[int]) -> Expr:
    """A chain of && or || as a tree that is as flat as can be: these chains may have thousands of terms."""

    def tree(first: int, last: int) -> Expr:
        middle = (first + last + 1) // 2
        left = terms[middle] if middle == first else tree(first, middle - 1)
        right = terms[middle + 1] if middle == last else tree(middle + 1, last)
        return Call(operators[middle], name, None, [left, right])

    return tree(0, len(operators) - 1) if operators else terms[0]


def _is_number(token: Token) -> bool:
    return token.kind == "LITERAL" and type(token.value) in (int, float, UInt)


def _qualified(expr: Expr) -> str:
    """`a.b.c` as a name; "" when the expression is something else."""
    if isinstance(expr, Ident):
        return expr.name
    if isinstance(expr, Select) and not expr.test and (prefix := _qualified(expr.operand)):
        return f"{prefix}.{expr.field}"
    return ""

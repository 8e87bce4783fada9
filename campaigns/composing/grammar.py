"""Which part of Jinja2 a template may use, and why nothing else.

A template may output a field, choose with `if`, and repeat with `for` over a field. It may not call,
calculate, define or reach into anything, so that it cannot run long, grow without bound, or read what
was not given to it. Jinja2's own sandbox alone does not promise that: it runs `{{ 'a' * 10**8 }}`.
"""

from collections.abc import Iterator, Mapping
from math import isinf
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from campaigns.composing import bounds

FILTERS = frozenset(("default", "d", "escape", "e", "join", "first", "last", "length", "round")) | frozenset(
    ("capitalize", "lower", "title", "trim", "truncate", "upper")
)
# those that read a text, or a list, from one end to the other
_READING = frozenset(("capitalize", "e", "escape", "join", "lower", "title", "trim", "truncate", "upper"))
TESTS = frozenset(("defined", "undefined", "none"))
LOOP_FIELDS = frozenset(("index", "index0", "first", "last", "length"))
MAX_LOOP_DEPTH = 2
MAX_NESTING = 50  # Python's own compiler gives up at 100 levels
MAX_CONSTRUCTS = 10_000
MAX_TEMPLATE_CHARACTERS = 1_000_000

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.List,
    nodes.Tuple,
)

_INSTEAD: dict[type[nodes.Node], str] = {
    nodes.Call: "calls are not available; use a filter, such as {{ name|upper }}",
    nodes.Assign: "values cannot be set in a template; add them to the campaign's variables",
    nodes.AssignBlock: "values cannot be set in a template; add them to the campaign's variables",
    nodes.Include: "a template stands alone; paste the other one's text",
    nodes.Extends: "a template stands alone; paste the other one's text",
    nodes.Import: "a template stands alone; paste the other one's text",
    nodes.FromImport: "a template stands alone; paste the other one's text",
    nodes.Block: "a template stands alone; write the text without the block",
    nodes.Macro: "macros are not available; write the text where it is used",
    nodes.BinExpr: "templates do not calculate; put the result into a field",
    nodes.UnaryExpr: "templates do not calculate; put the result into a field",
    nodes.Concat: "write the values one after the other: {{ a }}{{ b }}",
    nodes.Scope: "escaping is not a template's business",
    nodes.Dict: "put the values into a field",
    nodes.Slice: "use the filters first, last or truncate",
}


class TemplateRefused(ValueError):
    """A template does not parse or uses what it may not; `part`, `line` and the text say what and where."""

    def __init__(self, part: str, line: int, problem: str) -> None:
        super().__init__(f"{part}, line {line}: {problem}")
        self.part = part
        self.line = line
        self.problem = problem


class FieldsEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 in which a dot reads a key of a mapping, and nothing else of anything."""

    context_class = bounds.FieldsContext

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext) and attribute in LOOP_FIELDS:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping) or (isinstance(obj, list | tuple) and isinstance(argument, int)):
            try:
                value = obj[argument]
            except LookupError:
                value = None
            if value is not None:
                return value
        return self.undefined(obj=obj, name=argument)


_ITEMS, _WEIGHED = " items", " weighed"  # no template can name a filter with a space
_COUNTING = frozenset((_ITEMS, _WEIGHED, "join"))


def _blank_for_none(value: Any) -> Any:
    return "" if value is None else value


def _environment(*, autoescape: bool) -> FieldsEnvironment:
    environment = FieldsEnvironment(
        autoescape=autoescape,
        undefined=bounds.Missing,
        keep_trailing_newline=True,
        finalize=_blank_for_none,
    )
    environment.globals.clear()
    environment.filters.update({"join": bounds.join, "round": bounds.round_})
    environment.filters.update({_ITEMS: bounds.items, _WEIGHED: bounds.weighed})
    environment.tests["none"] = bounds.is_none
    return environment


HTML = _environment(autoescape=True)
PLAIN = _environment(autoescape=False)


def parse(part: str, source: str, environment: FieldsEnvironment) -> nodes.Template:
    """Parse `source`, hold it to the allow-list, and have it count its steps.

    `part` ("subject", "HTML" or "text") names the template in the error. Raises TemplateRefused.
    """
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateRefused(
            part, 1, f"it has {len(source):,} characters; at most {MAX_TEMPLATE_CHARACTERS:,} are allowed"
        )
    try:
        tree = environment.parse(source)
    except TemplateSyntaxError as error:
        raise TemplateRefused(part, error.lineno, error.message or "it does not parse") from error
    except ValueError as error:  # Python reads no longer ones
        raise TemplateRefused(part, 1, "a number in it has more than 4,300 digits") from error
    except RecursionError as error:
        raise TemplateRefused(part, 1, _TOO_DEEP) from error
    for line, problem in _problems(tree):
        raise TemplateRefused(part, line, problem)
    if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_CONSTRUCTS:
        raise TemplateRefused(part, 1, f"it has more than {MAX_CONSTRUCTS:,} constructs")
    _count_steps(tree)
    tree.set_environment(environment)
    return tree


_TOO_DEEP = f"it is nested more than {MAX_NESTING} deep"


def _problems(
    node: nodes.Node, *, within: nodes.Node | None = None, line: int = 1, loops: int = 0, depth: int = 0
) -> Iterator[tuple[int, str]]:
    """Yield the line and the words of what is not allowed, in the order of the text."""
    line = node.lineno or _line_inside(node) or line
    problem = _TOO_DEEP if depth > MAX_NESTING else _problem(node, within, loops)
    if problem:
        yield line, problem
        return
    inside = loops + isinstance(node, nodes.For)
    for child in node.iter_child_nodes():
        yield from _problems(child, within=node, line=line, loops=inside, depth=depth + 1)


def _line_inside(node: nodes.Node) -> int:
    """Return a line for a node that Jinja2 gave none."""
    return next((child.lineno for child in node.iter_child_nodes() if child.lineno), 0)


def _problem(node: nodes.Node, within: nodes.Node | None, loops: int) -> str | None:
    if not isinstance(node, _ALLOWED):
        for kind, advice in _INSTEAD.items():
            if isinstance(node, kind):
                return advice
        return f"the construct {type(node).__name__} is not available in e-mail templates"
    match node:
        case nodes.Const(value=float(value)) if isinf(value):
            return "a number is too large; put it into a field"
        case nodes.Name(name="self"):
            return "'self' is not a field"
        case nodes.Filter(name=name) if name not in FILTERS:
            return f"there is no filter {name!r} here; available: {', '.join(sorted(FILTERS))}"
        case nodes.Test(name=name) if name not in TESTS:
            return f"there is no test {name!r} here; available: {', '.join(sorted(TESTS))}"
        case nodes.List() | nodes.Tuple(ctx="load") if not _is_searched(within):
            return _LIST
        case nodes.For() if loops >= MAX_LOOP_DEPTH:
            return f"loops may be nested {MAX_LOOP_DEPTH} deep"
        case nodes.For(iter=iterated) if not isinstance(iterated, nodes.Name | nodes.Getattr | nodes.Getitem):
            return "a loop runs over a field, such as {% for item in items %}"
        case nodes.For(recursive=True):
            return "loops cannot be recursive"
        case nodes.Getattr(attr=key) if key.startswith("_"):
            return f"the key {key!r} starts with an underscore; such keys cannot be read"
        case nodes.Getitem(arg=argument) if not isinstance(argument, nodes.Const | nodes.Slice):
            return "a key is written out, such as {{ order['id'] }}"
    return None


_LIST = (
    "a list is written only behind 'in', as in {% if plan in ('pro', 'plus') %}; "
    "write values one after the other, {{ a }}, {{ b }}, or put the list into a field"
)


def _is_searched(within: nodes.Node | None) -> bool:
    return isinstance(within, nodes.Operand) and within.op in ("in", "notin")


# --- Steps


def counts_steps(tree: nodes.Template) -> bool:
    """Say whether anything in it, as `parse` returned it, counts its steps."""
    return any(each.name in _COUNTING for each in tree.find_all(nodes.Filter))


def _count_steps(tree: nodes.Template) -> None:
    """Have loops, and what reads whole values, say how much they do; `bounds` stops them."""
    loops = [(loop, _steps_inside(loop)) for loop in tree.find_all(nodes.For)]
    comparisons = list(tree.find_all(nodes.Compare))
    readers = [each for each in tree.find_all(nodes.Filter) if each.name in _READING]
    for loop, steps in loops:
        loop.iter = _filtered(loop.iter, _ITEMS, nodes.Const(steps))
    for comparison in comparisons:
        if not _is_short(comparison):
            comparison.expr = _weighed(comparison.expr)
            for operand in comparison.ops:
                operand.expr = _weighed(operand.expr)
    for reader in readers:
        reader.node = _weighed(reader.node) if reader.node else None
        reader.args = [_weighed(argument) for argument in reader.args]


def _steps_inside(loop: nodes.For) -> int:
    """Return how many steps one item takes, those of loops inside apart."""
    return 1 + sum(_steps(child) for child in loop.iter_child_nodes())


def _steps(node: nodes.Node) -> int:
    if isinstance(node, nodes.For):
        return 1
    text = node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else ""
    within = sum(_steps(child) for child in node.iter_child_nodes())
    return 1 + len(text) // bounds.CHARACTERS_A_STEP + within


def _is_short(comparison: nodes.Compare) -> bool:
    """Say whether only one value is compared with constants, which is over at its first difference."""
    operands = [comparison.expr]
    for operand in comparison.ops:
        if isinstance(operand.expr, nodes.List | nodes.Tuple):
            operands += operand.expr.items
        elif operand.op in ("in", "notin"):
            return False
        else:
            operands.append(operand.expr)
    return sum(not isinstance(each, nodes.Const) for each in operands) <= 1


def _weighed(expression: nodes.Expr) -> nodes.Expr:
    """Have an expression counted by the length of its value; a constant's is known."""
    if isinstance(expression, nodes.Const):
        return expression
    if isinstance(expression, nodes.List | nodes.Tuple):
        expression.items = [_weighed(item) for item in expression.items]
        return expression
    return _filtered(expression, _WEIGHED)


def _filtered(expression: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(expression, name, list(arguments), [], None, None, lineno=expression.lineno)

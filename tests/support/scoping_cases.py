"""Cells, and what Python's scoping makes of their names, written by hand.

Names in ``over`` are those that the analysis counts as read though no run of the case can show it: it errs on
the side of more. Each case runs once for each of its drives: seeds that lead it down other ways.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import attrs


@attrs.frozen
class Case:
    """A cell.

    Attributes:
        source: Its source.
        reads: Names it reads, separated by spaces; builtins aside.
        defines: Names it leaves bound in some run.
        deletes: Names it leaves deleted in some run.
        over: Names that the analysis reads besides.
        drives: Seeds of further runs, as Python expressions by name.
    """

    source: str
    reads: str = ""
    defines: str = ""
    deletes: str = ""
    over: str = ""
    drives: tuple[Mapping[str, str], ...] = ({},)


SEEDS = {
    "a": "1111", "b": "2222", "c": "3333", "i": "7", "k": "'k'", "n": "2", "p": "[1, 2]", "x": "1000", "y": "2000", "z": "3000",
    "xs": "[1, 2, 3]", "ys": "[4, 5]", "d": "{'k': 1}", "o": "Thing()", "f": "lambda *a, **k: 'f'",
    "g": "lambda *a, **k: 'g'", "deco": "lambda f: f", "cm": "Manager()", "E": "ValueError", "yes": "True",
    "no": "False", "Base": "Thing", "T": "int", "text": "'t'", "Meta": "type",
}  # fmt: skip
"""Seeds as Python expressions; ``Thing`` and ``Manager`` are the runner's."""

BRANCHES = ({"yes": "True"}, {"yes": "False"})

CASES: tuple[Case, ...] = (
    # assignments
    Case("x = 1", "", "x"),
    Case("x = y", "y", "x"),
    Case("x = x * 2", "x", "x"),
    Case("x = 1\ny = x", "", "x y"),
    Case("y = x\nx = 1", "x", "x y"),
    Case("x = y = a", "a", "x y"),
    Case("x, y = p", "p", "x y"),
    Case("x, *y = xs", "xs", "x y"),
    Case("(x, (y, z)) = (1, (2, a))", "a", "x y z"),
    Case("[x, y] = p", "p", "x y"),
    Case("x, y = y, x", "x y", "x y"),
    Case("x = [y := 1, y]", "", "x y"),
    Case("x += 1", "x", "x"),
    Case("x = 1\nx += 1", "", "x"),
    Case("x += y", "x y", "x"),
    Case("xs += [a]", "xs a", "xs"),
    Case("x: int = 1", "", "x"),
    Case(
        "x: T = 1",
        "T" if sys.version_info < (3, 14) else "",
        "x",
        over="" if sys.version_info < (3, 14) else "T",
    ),
    Case("x: int", "", ""),
    Case("x: int\ny = x", "x", "y"),
    Case("x = 1; y = x; z = y", "", "x y z"),
    Case("pass", "", ""),
    Case("", "", ""),
    Case("# only a comment", "", ""),
    Case("'a text'", "", ""),
    Case("x", "x", ""),
    Case("x = (y)", "y", "x"),
    Case("x = -y + +z", "y z", "x"),
    Case("x = a if yes else b", "a b yes", "x", drives=BRANCHES),
    Case("x = yes and a", "yes a", "x"),
    Case("x = no or a", "no a", "x"),
    Case("x = a < b < c", "a b c", "x"),
    Case("x = {a: b, **d}", "a b d", "x"),
    Case("x = {a, *xs}", "a xs", "x"),
    Case("x = xs[a:b:c]", "xs a b c", "x"),
    Case(
        "x = f(a, *xs, k=b, **d)",
        "a xs b d f",
        "x",
        drives=({"f": "lambda *a, **k: (a, sorted(k.items()))", "d": "{'q': 1}"},),
    ),
    Case("x = o.size", "o", "x"),
    Case("x = o.size.real", "o", "x"),
    Case("x = f'{a} {b!r:>{n}}'", "a b n", "x"),
    Case("x = f'{a=}'", "a", "x"),
    Case("x = f'{y + (z := 1)}' + str(z)", "y", "x z"),
    Case("x = 'a' 'b'", "", "x"),
    Case("x = [*xs, *ys]", "xs ys", "x"),
    Case("x = ...", "", "x"),
    # changes in place
    Case("d['k'] = 2", "d", "d"),
    Case("d[k] = x", "d k x", "d"),
    Case("o.size = 2", "o", "o"),
    Case("o.size += 1", "o", "o"),
    Case("d['k'] += 1", "d", "d"),
    Case("o.parts[0] = a", "o a", "o"),
    Case("del d['k']", "d", "d"),
    Case("del o.size", "o", "o"),
    Case("d = {}\nd['k'] = 1", "", "d"),
    Case("o.size, d['k'] = 5, 2", "o d", "o d"),
    Case("for xs[0] in ys: pass", "xs ys", "xs"),
    Case("with cm as d['k']: pass", "cm d", "d"),
    Case("y = xs.index(1)", "xs", "y"),
    Case("f(xs)[0:0] = []", "f xs", "", drives=({"f": "list"},)),
    # del
    Case("del x", "x", "", "x"),
    Case("x = 1\ndel x", "", "", "x"),
    Case("del x\nx = 1", "x", "x"),
    Case("del x, y", "x y", "", "x y"),
    Case("x = 1\ndel x\nx = 2", "", "x"),
    Case("if yes: del x", "yes x", "", "x", drives=BRANCHES),
    Case("x = 1\nif yes:\n    del x\ny = 1", "yes", "x y", "x", drives=BRANCHES),
    # conditions and loops
    Case("if yes: x = 1", "yes", "x", drives=BRANCHES),
    Case("if yes: x = 1\nelse: x = 2\ny = x", "yes", "x y", drives=BRANCHES),
    Case("if yes: x = 1\ny = x", "yes x", "x y", drives=BRANCHES),
    Case("if yes:\n    x = 1\nelif no:\n    x = 2\ny = x", "yes no x", "x y", drives=BRANCHES),
    Case("if 1: x = 1\ny = x", "", "x y"),
    Case("if 0: x = a\ny = 1", "", "y"),
    Case("for i in xs: pass", "xs", "i"),
    Case("for i in xs: x = i\ny = i", "xs i", "i x y", drives=({}, {"xs": "[]"})),
    Case("for i in xs: pass\nelse: y = 1", "xs", "i y"),
    Case("for i, x in [(1, 2)]: y = i + x", "", "i x y"),
    Case("for i in xs:\n    if i == 2: break\nelse:\n    y = 1", "xs", "i y", drives=({}, {"xs": "[]"})),
    Case("for i in xs:\n    x = i\n    y = x", "xs", "i x y"),
    Case("for i in xs:\n    if yes: continue\n    x = 1\ny = x", "xs yes x", "i x y", drives=BRANCHES),
    Case("while n:\n    n -= 1\n    x = n", "n", "n x"),
    Case("while True:\n    x = 1\n    break\ny = x", "", "x y"),
    Case(
        "while True:\n    if yes:\n        x = 1\n        break\n    yes = True\ny = x",
        "yes",
        "x y yes",
        drives=BRANCHES,
    ),
    Case("while no: pass\nelse: y = 2\nz = y", "no", "y z"),
    Case("t = 0\nfor i in xs: t += i", "xs", "t i"),
    Case("for i in xs: z = z + i", "xs z", "z i"),
    Case("for i in range(2):\n    if i: y = x\n    x = 1", "", "i x y", over="x"),
    # try
    Case("try:\n    x = f()\nexcept E: x = 0\ny = x", "f", "x y", over="E"),
    Case("try:\n    x = f(1)\nfinally:\n    y = 1", "f", "x y"),
    Case("try:\n    raise E\nexcept E as e:\n    x = str(e)", "E", "x", "e", over=""),
    Case("try:\n    raise E\nexcept E as e:\n    x = e.args\ny = 1", "E", "x y", "e"),
    Case("try:\n    x = 1\nexcept E:\n    x = 2\nelse:\n    y = x", "", "x y"),
    Case("try:\n    x = int('1')\nexcept ValueError:\n    pass\ny = x", "", "x y", over="x"),
    Case(
        "try:\n    x = int(text)\nexcept ValueError:\n    pass\ny = x",
        "text x",
        "x y",
        drives=({"text": "'a'"}, {"text": "'1'"}),
    ),
    Case("try:\n    import nothing_there as x\nexcept ImportError:\n    x = None\ny = x", "", "x y"),
    Case(
        "try:\n    f()\nexcept (E, KeyError): y = 1\nfinally: z = 2",
        "f E",
        "y z",
        drives=({}, {"f": "lambda: int('a')"}),
    ),
    Case("try:\n    raise ExceptionGroup('', [E()])\nexcept* E as g: x = 1", "E", "x", "g"),
    Case("try:\n    y = x\nexcept NameError:\n    y = 0", "x", "y"),
    Case("assert yes, text", "yes text", "", drives=({}, {"yes": "False"})),
    Case("if no: raise E(x)", "no E x", "", drives=({}, {"no": "True"})),
    # with
    Case("with cm: x = 1", "cm", "x"),
    Case("with cm as x: y = x", "cm", "x y"),
    Case("with cm as x, cm as y: z = 1", "cm", "x y z"),
    Case("with (cm as x): pass", "cm", "x"),
    Case("with cm as (x, y): pass", "cm", "x y", drives=({"cm": "Manager((1, 2))"},)),
    Case("with cm:\n    x = f()\ny = x", "cm f", "x y", over="x"),
    # modules and their names
    Case("import math", "", "math"),
    Case("import os.path", "", "os"),
    Case("import os.path as x", "", "x"),
    Case("import math as x, json", "", "x json"),
    Case("from math import pi", "", "pi"),
    Case("from math import pi as x, tau", "", "x tau"),
    Case("from os.path import (join, split as y)", "", "join y"),
    Case("import math\nx = math.pi", "", "math x"),
    Case("x = math.pi\nimport math", "math", "math x", drives=({"math": "Thing(pi=3)"},)),
    # functions
    Case("def f(): pass", "", "f"),
    Case("def f(): return x\ny = f()", "x", "f y"),
    Case("def f(x): return x\ny = f(1)", "", "f y"),
    Case("def f(a=x): return a\ny = f()", "x", "f y"),
    Case("def f(*, a=x): return a\ny = f()", "x", "f y"),
    Case("def f(*x, **y): return x, y\nz = f(1)", "", "f z"),
    Case("def f(x, /, y): return x + y\nz = f(1, 2)", "", "f z"),
    Case("def f():\n    x = 1\n    return x\ny = f()", "", "f y"),
    Case("def f():\n    return x\n    x = 1\ntry: f()\nexcept UnboundLocalError: y = 1", "", "f y"),
    Case("def f():\n    global z\n    z = 1\nf()", "", "f z"),
    Case("def f():\n    global z\n    z = 1\nf()\ny = z", "", "f y z", over="z"),
    Case("def f():\n    global z\n    z += 1\nf()", "z", "f z"),
    Case("def f():\n    global z\n    del z\nf()", "z", "f", "z"),
    Case("def f():\n    global z\n    z = 1\n    return z\ny = f()", "", "f y z"),
    Case("def f(): return y\ny = 1", "", "f y"),
    Case("def f(): return y\ny = 1\nx = f()", "", "f x y"),
    Case("def f(): return y\nx = f()\ny = 1", "y", "f x y"),
    Case("def f(): return g()\ndef g(): return x\ny = f()", "x", "f g y"),
    Case("def f(): return g()\ndef g(): return z\nz = 1\ny = f()", "", "f g y z"),
    Case("def f(): return g()\ndef g(): return z\ny = f()\nz = 1", "z", "f g y z"),
    Case("def f(n): return f(n - 1) if n else a\ny = f(2)", "a", "f y"),
    Case("def f():\n    def h(): return x\n    return h()\ny = f()", "x", "f y"),
    Case("def f():\n    x = 1\n    def h(): return x\n    return h()\ny = f()", "", "f y"),
    Case(
        "def f():\n    x = 1\n    def h():\n        nonlocal x\n        x = 2\n    h()\n    return x\ny = f()",
        "",
        "f y",
    ),
    Case(
        "def f():\n    x = 1\n    def h():\n        global x\n        return x\n    return h()\ny = f()",
        "x",
        "f y",
    ),
    Case("@deco\ndef f(): return x\ny = f()", "deco x", "f y"),
    Case("@o.mark(a)\ndef f(): pass", "o a", "f", drives=({"o": "Thing(mark=lambda a: lambda f: f)"},)),
    Case(
        "def f(a: T) -> T: return a" if sys.version_info < (3, 14) else "def f(a): return a",
        "T" if sys.version_info < (3, 14) else "",
        "f",
    ),
    Case("from __future__ import annotations\ndef f(a: T) -> T: return a\ny = f(1)", "", "f y annotations"),
    Case("def f():\n    for i in xs: pass\n    return i\ny = f()", "xs", "f y"),
    Case("def f():\n    import math\n    return math.pi\ny = f()", "", "f y"),
    Case("def f():\n    yield x\ny = list(f())", "x", "f y"),
    Case("def f():\n    with cm as q: return q\ny = f()", "cm", "f y"),
    Case("def f():\n    try: raise E\n    except E as e: return str(e)\ny = f()", "E", "f y"),
    Case("async def h(): return x\ny = h().close()", "", "h y", over="x"),
    Case("def f(): d['k'] = 5\nf()", "d", "f d"),
    Case("def f(d): d['k'] = 5\ny = f({})", "", "f y"),
    Case("def f(): return len(xs)\ny = f()", "xs", "f y"),
    Case("def f(): return __name__", "", "f", over="__name__"),
    Case("f = [f]", "f", "f"),
    Case("h = g\ndef g(): return x", "g", "g h", over="x"),
    # lambdas
    Case("f = lambda: x\ny = f()", "x", "f y"),
    Case("f = lambda x: x\ny = f(1)", "", "f y"),
    Case("f = lambda a=x: a\ny = f()", "x", "f y"),
    Case("f = lambda: y\ny = 1\nz = f()", "", "f y z"),
    Case("y = (lambda a: a + b)(1)", "b", "y"),
    Case("y = sorted(xs, key=lambda q: -q * n)", "xs n", "y"),
    Case("f = lambda: (z := 1)\nf()", "", "f"),
    Case("f = lambda *a, **k: (a, x)\ny = f()", "x", "f y"),
    Case("y = (lambda: lambda: x)()()", "x", "y"),
    # comprehensions
    Case("y = [i for i in xs]", "xs", "y"),
    Case("y = [i + a for i in xs]", "xs a", "y"),
    Case("y = [i for i in xs if i > n]", "xs n", "y"),
    Case("y = [i + x for i in xs for x in ys]", "xs ys", "y"),
    Case("y = [x for x in x]", "x", "y", drives=({"x": "[1]"},)),
    Case("y = {i: a for i in xs}", "xs a", "y"),
    Case("y = {i for i in xs}", "xs", "y"),
    Case("y = list(i * a for i in xs)", "xs a", "y"),
    Case("y = [[i * q for q in ys] for i in xs]", "xs ys", "y"),
    Case("y = [(z := i) for i in xs]", "xs", "y z"),
    Case("y = [(z := i) for i in xs]\nx = z", "xs z", "x y z", drives=({}, {"xs": "[]"})),
    Case("y = [i for i in xs]\nz = i", "xs i", "y z"),
    Case("i = 1\ny = [i for _ in xs]", "xs", "i y"),
    Case("y = any((z := i) > 1 for i in xs)", "xs", "y z"),
    Case("y = [f(i) for i in xs if (q := g(i))]", "xs f g", "y q"),
    Case("y = [lambda: i for i in xs][0]()", "xs", "y"),
    Case("y = [(lambda: x)() for _ in xs]", "xs x", "y"),
    # walrus
    Case("if (y := x): z = y", "x", "y z"),
    Case("y = (x := 1) + x", "", "x y"),
    Case("y = x + (x := 1)", "x", "x y"),
    Case("while (y := next(it, None)) is not None: z = y", "it", "y z", drives=({"it": "iter([1])"},)),
    Case("y = f(x := 1, x)", "f", "x y"),
    Case("y = yes and (x := 1)\nz = x", "yes x", "x y z", drives=BRANCHES),
    # classes
    Case("class C: pass", "", "C", over="__name__"),
    Case("class C(Base): pass", "Base", "C", over="__name__"),
    Case("class C(metaclass=Meta): pass", "Meta", "C", over="__name__"),
    Case("class C:\n    a = x\ny = C.a", "x", "C y", over="__name__"),
    Case("class C:\n    x = x\ny = C.x", "x", "C y", over="__name__"),
    Case("class C:\n    x = 1\n    y = x\nz = C.y", "", "C z", over="__name__"),
    Case("class C:\n    x = 1\n    def m(self): return x\ny = C().m()", "x", "C y", over="__name__"),
    Case("class C:\n    def m(self): return x\ny = C().m()", "x", "C y", over="__name__"),
    Case("class C:\n    def m(self): return self.q\n    q = 1\ny = C().m()", "", "C y", over="__name__"),
    Case("class C:\n    def m(self): return x\nx = 1\ny = C().m()", "", "C x y", over="__name__"),
    Case("class C:\n    def m(self): return x\ny = C().m()\nx = 1", "x", "C x y", over="__name__"),
    Case("class C:\n    global z\n    z = 1", "", "C z", over="__name__"),
    Case("class C:\n    ys = [i for i in xs]\ny = C.ys", "xs", "C y", over="__name__"),
    Case("class C:\n    a = 1\n    b = [a for _ in xs]\ny = C.b", "xs a", "C y", over="__name__"),
    Case("class C:\n    if yes: x = 1\n    y = x\nz = C.y", "yes x", "C z", over="__name__", drives=BRANCHES),
    Case("class C:\n    del_me = 1\n    del del_me", "", "C", over="__name__"),
    Case("class C:\n    class D:\n        a = x\ny = C.D.a", "x", "C y", over="__name__"),
    Case("class C:\n    for i in xs: pass\ny = C.i", "xs", "C y", over="__name__"),
    Case("class C:\n    import math\ny = C.math.pi > 3", "", "C y", over="__name__"),
    Case("class C:\n    def __init__(self): self.v = x\ny = C().v", "x", "C y", over="__name__"),
    Case(
        "class C:\n    @property\n    def v(self): return __class__.__name__\ny = C().v",
        "",
        "C y",
        over="__name__",
    ),
    Case("class C:\n    __x = 1\n    def m(self): return self.__x\ny = C().m()", "", "C y", over="__name__"),
    Case(
        "class C:\n    def m(self): return __x\ny = C().m()",
        "_C__x",
        "C y",
        over="__name__",
    ),
    Case(
        "def f():\n    x = 1\n    class C:\n        y = x\n    return C.y\nz = f()",
        "",
        "f z",
        over="__name__",
    ),
    Case(
        "def f():\n    x = 1\n    class C:\n        x = x\n    return C.x\nz = f()",
        "x",
        "f z",
        over="__name__",
    ),
    Case("@deco\nclass C:\n    def m(self): return x\ny = C().m()", "deco x", "C y", over="__name__"),
    # match
    Case("match x:\n    case 1000: y = 1", "x", "y"),
    Case("match p:\n    case [a, b]: y = a", "p", "a b y"),
    Case("match p:\n    case [a, *b]: pass", "p", "a b"),
    Case("match d:\n    case {'k': v, **rest}: y = v", "d", "v rest y"),
    Case("match x:\n    case int() as q: y = q", "x", "q y"),
    Case("match x:\n    case o.size: y = 1\n    case _: y = 2", "x o", "y"),
    Case("match o:\n    case Base(size=q): y = q", "o Base", "q y"),
    Case("match x:\n    case q if q > n: y = q", "x n", "q y"),
    Case("match x:\n    case 1 | 2: y = 1\n    case q: y = q", "x", "q y"),
    Case(
        "match p:\n    case [1, z] | [z, 1]: pass\n    case _: pass\ny = z",
        "p z",
        "z y",
        drives=({}, {"p": "[5, 6]"}),
    ),
    Case("match = 1\ncase = match", "", "match case"),
    # builtins and the like
    Case("x = len(xs)", "xs", "x"),
    Case("print = x", "x", "print"),
    Case("len = len", "", "len"),
    Case("x = type(a)", "a", "x"),
    Case("_ = x", "x", "_"),
    Case("_x = 1\ny = _x", "", "_x y"),
    Case("x = __name__", "", "x", over="__name__"),
    Case("global x\nx = 1", "", "x"),
    Case("x = 1 if yes else y", "yes y", "x", drives=BRANCHES),
    Case("\u00e4 = x\ny = \u00e4", "x", "\u00e4 y"),
    Case("\ufb01 = 1\ny = fi", "", "fi y"),
    Case("x = y = 0\nx, y = y, x", "", "x y"),
)

if sys.version_info >= (3, 12):
    CASES += (
        Case("type X = int", "", "X"),
        Case("type X = T\ny = X.__value__", "T", "X y"),
        Case("def f[T](a: T) -> T: return a\ny = f(1)", "", "f y"),
        Case("def f[S: T](a: S): return a\ny = f.__type_params__[0].__bound__", "T", "f y"),
        Case("class C[T]: pass", "", "C", over="__name__"),
        Case("class C[T](Base): pass", "Base", "C", over="__name__"),
        Case("x = f'{'a' + f'{b}'}'", "b", "x"),
    )

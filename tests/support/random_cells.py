"""Cells for random notebooks."""

START = "a = 1\nb = 2\nc = 3\nxs = [1, 2]\nd = {'k': 1}\ndef f(): return a\ndef g(): return f() + b\ndef inc(): pass"
STATEMENTS = (
    "a = {k}", "b = a + {k}", "c = a + b", "a += {k}", "if a % 2: b = {k}", "if b > {k}: a = b\nelse: c = {k}",
    "for i in range({k} % 3): c = i + a", "def f(): return a + {k}", "def f(): return b * {k}",
    "def g(): return f() + c", "b = f()", "c = g()", "xs = [a, b, {k}]", "xs[0] = c", "a = sum(xs)",
    "d['k'] = a", "d = {{'k': {k}}}", "b = d['k']", "b = [a := v for v in xs][-1]", "c = [f() for _ in xs][0]",
    "try:\n    c = a // (b % 2)\nexcept ZeroDivisionError as e:\n    c = {k}",
    "def inc():\n    global a\n    a += {k}", "inc()", "inc()\nb = a", "c = (lambda: a + b)()",
    "del b\nb = {k}", "b = 0\ndel b", "b = c", "class C:\n    v = a\n    def m(self): return b + self.v",
    "class C:\n    def m(self): return f()", "a = C().m()", "match xs:\n    case [{k}, *c]: pass\n    case _: c = a",
    "while a > 5: a -= 5", "xs, c = [c, a], {k}", "a = a if a < 1000 else {k}", "h = f", "h = g\nb = h()", "a = h()",
)  # fmt: skip
"""Cells that never share a mutable value between two names, since each cell has copies of its own."""

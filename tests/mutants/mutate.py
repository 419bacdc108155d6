# SPDX-License-Identifier: Apache-2.0
"""Where C code can be changed, one place at a time, and what it is changed to."""

import re
from dataclasses import dataclass
from pathlib import Path

OPERATORS = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "&&": "||",
             "||": "&&", "+": "-", "-": "+", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
             "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|="}
# The formatter puts blanks round a binary operator and none after a unary one.
OPERATOR = re.compile(r"(?<= )(" + "|".join(map(re.escape, sorted(OPERATORS, key=len)[::-1]))
                      + r")(?= )")
NUMBER = re.compile(r"(?<![\w.])(?<!< )(?<!\{ )(\d+)(?=[uUlL]*\b)(?![\w.]*x)")
TRUTH = re.compile(r"\b(true|false)\b")
NEGATION = re.compile(r"!(?=[\w(])")
STATEMENT = re.compile(r"^\t+(?P<what>(?!(return|if|for|while)\b)[\w>.\[\]-]+"
                       r"(\(| [-+|&^]?= | <<= | >>= |\+\+;|--;).*;)$")
FUNCTION = re.compile(r"(?:[A-Za-z_]\w*[ *]+)+(\w+)\(")
# Comments, literals, directives.
IGNORED = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
                     r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.S | re.M)


@dataclass(frozen=True)
class Mutant:
    """One change of one line; `kind` is for the table."""

    path: Path
    line: int  # from 1
    function: str
    kind: str
    before: str
    after: str

    def change(self):
        """Both lines, without what they have in common, for people."""
        return f"{self.before.strip()}  =>  {self.after.strip()}"

    def key(self, root):
        """What the file of equivalent mutants knows it by: no line number, which moves."""
        return f"{self.path.relative_to(root)} {self.function}(): {self.change()}"


def masked(text):
    """The same text with blanks for comments, literals and directives: what is left is code."""
    return IGNORED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def bodies(lines):
    """
    Indices of lines within functions, and the function's name: the formatter puts it and the braces
    into the first column.
    """
    inside, name = False, ""
    for index, line in enumerate(lines):
        if line == "{":
            inside = True
        elif line.startswith("}"):
            inside = False
        elif inside:
            yield index, name
        elif match := FUNCTION.match(line):
            name = match.group(1)


def whole(code, index):
    """Whether a line is a statement from begin to end: what is before it has ended."""
    before = code[index - 1].rstrip()
    return code[index].count("(") == code[index].count(")") and (
        not before or before.endswith((";", "{", "}", ")", "else", ":")))


def changes(code, line):
    """(kind, changed line) for each place of a line; code: the line, masked."""
    def put(match, text):
        return line[:match.start()] + text + line[match.end():]

    for match in OPERATOR.finditer(code):
        yield "operator", put(match, OPERATORS[match.group()])
    for match in NUMBER.finditer(code):
        yield "constant", put(match, str(int(match.group()) + 1))
    for match in TRUTH.finditer(code):
        yield "constant", put(match, "false" if match.group() == "true" else "true")
    for match in NEGATION.finditer(code):
        yield "negation", put(match, "")


def mutants(path):
    """All of a file."""
    text = path.read_text()
    lines, code = text.split("\n"), masked(text).split("\n")
    for index, function in bodies(lines):
        if re.match(r"\t+(case|static|const)\b", code[index]):
            continue
        for kind, changed in changes(code[index], lines[index]):
            yield Mutant(path, index + 1, function, kind, lines[index], changed)
        match = STATEMENT.match(code[index].rstrip())
        if match and whole(code, index):
            indent = len(match.group()) - len(match.group("what"))
            yield Mutant(path, index + 1, function, "dropped", lines[index],
                         "\t" * indent + ";")


def apply(mutant, path):
    """Writes the changed file to path."""
    lines = mutant.path.read_text().split("\n")
    lines[mutant.line - 1] = mutant.after
    path.write_text("\n".join(lines))

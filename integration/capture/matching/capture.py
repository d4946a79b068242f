"""Records which node names fit which patterns of a broadcast message, by kombu.matcher: fnmatch and re.match.

    python capture.py <folder>
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import sys
import warnings

import kombu
from kombu.matcher import match

NAMES = [
    "celery@h", "w1@golden", "a", "b", "ab", "a-b", "", "a]b", "[a]", "!a", "\\", "^", "é@ü", "A", "a.b", "a\nb", "-",
    "1_2", "w12@x",
]  # fmt: skip
GLOBS = [
    "*", "?", "w*@golden", "w?@golden", "[a-c]", "[!a-c]", "[^a]", "[]a]", "[!]a]", "[a", "[", "[]", "[!]", "[!",
    "[a-]", "[-a]", "[!-a]", "[b-a]", "[!b-a]", "[a-b-c]", "[c-b-a]", "[\\]", "[\\\\]", "\\*", "**a", "a**", "*@*",
    "[[]a]", "[a&&b]", "[a--b]", "[~|]", "é*", "w[0-9]*",
]  # fmt: skip
PATTERNS = [
    "", "a", "w\\d+@", "w\\d@golden$", "\\w+@", "\\W", "\\s", "\\S+", "[\\w.]+@", "[^@]+@h", "(a|b)", "(?:a|b)+",
    "(?P<x>a)b", "(?P<x>a)(?P=x)", "(?i)A", "(?i:A)b", "a(?i)b", "(?x) a", "(?=a)", "(?!a)", "(?<=a)b", "(?>a)",
    "a*+", "a{1}", "a{,2}", "a{1,}", "a{", "a{x}", "{", "a{,}", "\\Aa\\Z", "\\ba\\b", "a\\b", "\\Ba", "[\\b]",
    "\\x61", "\\u0061", "\\U00000061", "\\x6", "\\01", "\\1", "(a)\\1", "\\q", "\\", "[", "[]", "[]a]", "[^]a]",
    "[[:alpha:]]", "[[a]", "[a-", "[b-a]", ".", "(?s).", "a.b", "(?s)a.b", "a$", "^a", "(?m)^b", "(?m)a$", "*", "+a",
    "(", ")", "a||b", "a?", "a??", "a+?b", "[a\\]]", "[\\d-]", "\\-", "\\@", "\\_", "\\é", "é", "[é-ü]", "\\pL",
    "\\Qa\\E", "(?<x>a)", "(?U)a", "[\\S]", "[\\D]", "\\D", "\\N{LATIN SMALL LETTER A}", "(?#x)a", "(?P>x)",
    "(?a)\\w", "(?u)\\w", "(?-i:a)", "(?i-m:a)", "a{1000}", "(a{30}){30}",
]  # fmt: skip
PARTS = [
    "a", "b", ".", "*", "+", "?", "|", "(", ")", "(?:", "[", "]", "^", "$", "-", "\\", "\\d", "\\w", "{1,2}", "{,2}",
    "{", "@",
]  # fmt: skip
RANDOM = 3000


def outcome(name: str, pattern: str, matcher: str) -> bool | None:
    try:
        return bool(match(name, pattern, matcher))
    except (re.error, OverflowError):
        return None


def chosen(rnd: random.Random, parts: str | list[str], most: int) -> str:
    return "".join(rnd.choices(parts, k=rnd.randint(1, most)))


def main() -> None:
    warnings.simplefilter("ignore")
    rnd = random.Random(1)
    patterns = {
        "glob": GLOBS + [chosen(rnd, "aab-]![*?\\^.@", 8) for _ in range(RANDOM)],
        "pcre": PATTERNS + [chosen(rnd, PARTS, 7) for _ in range(RANDOM)],
    }
    cases = []
    for matcher, all_patterns in patterns.items():
        for pattern in dict.fromkeys(all_patterns):
            found = [outcome(name, pattern, matcher) for name in NAMES]
            cases.append({"matcher": matcher, "pattern": pattern, "matches": compact(found)})
    versions = {"kombu": kombu.__version__, "python": platform.python_version()}
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(os.path.join(sys.argv[1], "match.json"), "w") as file:
        file.write('{"case": "match", "versions": %s, "names": %s, "cases": [\n' % (json.dumps(versions), json.dumps(NAMES)))
        file.write(",\n".join(json.dumps(c) for c in cases))
        file.write("\n]}\n")


def compact(matches: list[bool | None]) -> list[int] | None:
    """The indexes of the names that fit; null for a pattern that is an error."""
    return None if None in matches else [i for i, m in enumerate(matches) if m]


if __name__ == "__main__":
    main()

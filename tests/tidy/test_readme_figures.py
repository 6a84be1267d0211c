"""Measured figures in README.md stand in bench/RESULTS.md, digit for digit, and where they are shown it is linked.

A figure is a number with a unit of speed, time, size or ratio. Sizes and durations that are rules or facts rather than
measurements are excepted one by one, with the reason.
"""

import re
from collections.abc import Iterator

import pytest

from tidy.house import ROOT

RESULTS = "bench/RESULTS.md"
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
UNIT = (
    r"(?:(?:[a-z]+ )?[a-z]+/s\b|/s\b|(?:[a-z]+ ){0,2}per second\b|times\b|x\b|%|(?:ns|us|µs|ms)\b|[KMGT]i?B\b"
    r"|bytes (?:a|per)\b)"
)
FIGURE = re.compile(rf"(?<![\w.,/-])({NUMBER})[ \u00a0]?(?:million |thousand |M |k )?({UNIT})")
# In a table the unit may stand in the head; so there every number with a decimal point or a thousands separator counts.
CELL = re.compile(r"(?<![\w.,/-])(\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+)(?![\w.,/-]*\w)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NOT_MEASURED = {
    "44 MB": "what Kafka's jars weigh; CONTRIBUTING.md says the same",
    "1 KiB": "how much of a refused record is kept: a limit",
}


def sections(text: str) -> Iterator[str]:
    """The text between headings, without code."""
    return iter(re.split(r"^#+ .*$", FENCED.sub("", text), flags=re.MULTILINE))


def figures_of(section: str) -> Iterator[tuple[str, str]]:
    """(number, number with its unit) of all figures."""
    for line in section.splitlines():
        for match in FIGURE.finditer(line):
            if match.group() not in NOT_MEASURED:
                yield match.group(1), match.group()
        if line.lstrip().startswith("|"):
            yield from ((match.group(1), match.group()) for match in CELL.finditer(line))


def unfounded(readme: str, results: str) -> list[str]:
    """Figures of the first text that the second lacks, or that stand in a section that does not link to it."""
    known = set(re.findall(rf"(?<![\d.,]){NUMBER}(?![\d]|[.,]\d)", results))
    found = []
    for section in sections(readme):
        for number, whole in figures_of(section):
            if RESULTS not in section:
                found.append(f"{whole}: no link to {RESULTS} in its section")
            elif number not in known:
                found.append(f"{whole}: not in {RESULTS}")
    return found


def test_every_figure_of_the_readme_is_in_the_results() -> None:
    assert unfounded((ROOT / "README.md").read_text("utf-8"), (ROOT / RESULTS).read_text("utf-8")) == []


def test_every_exception_is_used() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [words for words in NOT_MEASURED if words not in text] == []


LINKED = f"# Speed\nAll of it: [figures]({RESULTS}).\n"


@pytest.mark.parametrize(
    "text",
    [
        "It reads 659,248 visits/s.",
        "It reads 659,248 records per second.",
        "4.9 times as fast",
        "a lookup takes 21 us",
        "14 ms cold",
        "7 MB on disk",
        "43 bytes a visit",
        "5.2 million lookups/s",
        "70 % of the time",
        "| uniqdb | 659,248 | 4.83 |",
        "| uniqdb | 659,247 | 4.84 |",
    ],
)
def test_rule_flags(text: str) -> None:
    results = "| uniqdb | 659,247 | 4.83 | 21.5 us, 144 ms | 6.3 MB, 142.5 bytes, 0.70, 15.2 |"
    assert len(unfounded(LINKED + text, results)) == 1


def test_rule_wants_the_link_in_the_same_section() -> None:
    text, results = "It reads 659,247 visits/s.\n", "659,247"
    assert unfounded(LINKED + text, results) == []
    assert len(unfounded(LINKED + "# Other\n" + text, results)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "30 days are 30 whole local dates",
        "at most every 10 s for each",
        "after 50,000 visits, or a second",
        "exit code 65",
        "2016-07-11, version 4.3.1, 127.0.0.1:9092",
        "```\n659,248 visits/s\n```",
        "refused records: the first 1 KiB",
        "| `ts` | Unix seconds | 1468244384 |",
    ],
)
def test_rule_leaves(text: str) -> None:
    assert unfounded(text, "") == []

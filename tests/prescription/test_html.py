"""The page and the fragment of a prescription: valid, self-contained, safe, and right in what they show."""

import re
from dataclasses import replace

import html5lib
import pytest

from gradcore.prescription import words
from gradcore.prescription.html import fragment, page

NASTY = "<script>alert('“ärger”')</script> & 桁"
NAMES = ("cured", "healthy", "harmed", "hopeless", "regression", "budget")


def parsed(text):
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(text)


def texts(tree, path):
    return [" ".join("".join(element.itertext()).split()) for element in tree.iterfind(path)]


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_valid_small_and_need_nothing_else(prescriptions, name):
    text = page(prescriptions[name], command="gradcore prescribe <data> & more")
    tree = parsed(text)
    assert len(text.encode()) < 300_000
    assert not re.search(r"(src|href)=|url\(|@import|https?://(?!www\.w3\.org)", text)
    said = words.headline(prescriptions[name])
    assert texts(tree, ".//h1") == [said[:1].upper() + said[1:]]
    assert "None" not in "".join(tree.itertext())
    assert "nan" not in re.findall(r"[a-z]+", "".join(tree.find("body/main").itertext()))


@pytest.mark.parametrize("name", NAMES)
def test_fragments_are_valid_and_say_the_verdict(prescriptions, name):
    text = fragment(prescriptions[name])
    tree = parsed(f"<!DOCTYPE html><html><head><title>x</title></head><body>{text}</body></html>")
    said = words.headline(prescriptions[name])
    assert texts(tree, ".//p[@class='kind']")[0][2:] == said[:1].upper() + said[1:]
    assert prescriptions[name]._repr_html_() == text


def test_the_table_has_every_trial_with_its_verdict(prescriptions):
    found = prescriptions["cured"]
    lines = list(parsed(page(found)).iterfind(".//tbody/tr"))
    assert [line.find("th").text.strip() for line in lines] == [trial.name for trial in found.trials]
    rows = [texts(line, "./*") for line in lines]
    for row, trial in zip(rows[1:], found.trials[1:], strict=True):
        assert row[1].startswith(trial.verdict)
        assert row[2] == f"{trial.trained} of {len(trial.results)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_remark_stands_in_the_table_and_once(prescriptions, name):
    trials = prescriptions[name].trials
    lines = list(parsed(page(prescriptions[name])).iterfind(".//tbody/tr"))
    assert not texts(lines[0], "./th/span")
    for line, trial in zip(lines[1:], trials[1:], strict=True):
        (remarks,) = texts(line, "./th/span")
        assert remarks.startswith(trial.kind.replace("_", " "))
        assert trial.note.removeprefix("not tried: ") in remarks
        assert trial.caution in remarks
        assert "not tried" not in remarks


def test_a_chance_is_no_certainty(prescriptions):
    found = prescriptions["cured"]
    sure = replace(found, trials=tuple(replace(trial, chance=1.0) for trial in found.trials))
    promises = [texts(row, "./td")[5] for row in parsed(page(sure)).iterfind(".//tbody/tr")]
    assert promises == ["> 99 %"] * len(found.trials)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_done_is_not_claimed(prescriptions, name):
    trials = prescriptions[name].trials
    text = " ".join(texts(parsed(page(prescriptions[name])), ".//p"))
    tried = sum(bool(trial.results) for trial in trials[1:])
    assert f"{tried} treatment{'s' * (tried != 1)} w" in text
    assert (f"and {len(trials) - 1 - tried} not at all" in text) == (tried < len(trials) - 1)
    fresh = [trial for trial in trials if trial.fresh]
    assert ("Nothing was trained anew" in text) == (not fresh)
    for trial in fresh:
        assert f"{trial.name} ({len(trial.results)} seeds)" in text


def test_some_prescriptions_here_leave_things_undone(prescriptions):
    assert any(not trial.results for trial in prescriptions["budget"].trials)
    assert not any(trial.fresh for trial in prescriptions["budget"].trials)
    assert sum(trial.fresh for trial in prescriptions["cured"].trials) > 1


def test_zero_is_explained_where_it_is_drawn(prescriptions):
    assert "A curve on the lower edge is zero there." in page(prescriptions["cured"])
    assert "lower edge" not in page(prescriptions["healthy"])


def test_the_page_says_what_makes_it_again(prescriptions):
    found = prescriptions["cured"]
    assert texts(parsed(page(found)), ".//pre")[-1] == " ".join(found.reproduce.split())
    assert texts(parsed(page(found, command="gradcore prescribe")), ".//pre")[-1] == "gradcore prescribe"


def test_when_nothing_helps_it_says_so_and_what_to_look_at(prescriptions):
    tree = parsed(page(prescriptions["hopeless"]))
    assert texts(tree, ".//h1") == ["Nothing that was tried is proved to help"]
    assert any("look at the labels" in said for said in texts(tree, ".//header/p"))
    assert not texts(tree, ".//pre/ins")


def test_signs_tell_help_from_harm_without_colour(prescriptions):
    up, down, dot = "M0 -5L5 4H-5Z", "M0 5L5 -4H-5Z", "M-4 0a4"
    cured, harmed = page(prescriptions["cured"]), page(prescriptions["harmed"])
    best = prescriptions["cured"].best
    helped = sum(len(trial.scores) for trial in prescriptions["cured"].trials if trial.verdict == "helped")
    assert cured.count(up) == 2 * helped >= 2 * len(best.scores)  # wide and narrow
    assert down not in cured
    assert down in harmed
    assert dot in harmed


def test_the_diff_can_be_copied(prescriptions):
    tree = parsed(page(prescriptions["cured"]))
    shown = [*texts(tree, ".//pre/del"), *texts(tree, ".//pre/ins")]
    lines = [" ".join(line.split()) for line in prescriptions["cured"].code.splitlines()]
    assert sorted(shown) == sorted(lines)


def test_profiles_are_drawn_before_and_after(prescriptions):
    text = "".join(parsed(page(prescriptions["cured"])).itertext())
    assert "Gradient and signal by layer before training. as it is: gradient 10⁻" in text
    assert "by layer after training" in text


def test_a_healthy_network_has_no_change(prescriptions):
    tree = parsed(page(prescriptions["healthy"]))
    assert not texts(tree, ".//pre/ins")
    assert "needs nothing" in texts(tree, ".//h1")[0]


def test_nothing_that_is_written_is_run(prescriptions):
    found = prescriptions["cured"]
    spoilt = replace(found, code=f"- {NASTY}\n+ {NASTY}", best=replace(found.best, caution=NASTY))
    for text in (page(spoilt, command=NASTY), fragment(spoilt)):
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


def test_it_is_written_to_a_file(prescriptions, tmp_path):
    path = tmp_path / "page.html"
    assert prescriptions["cured"].to_html(path) == path.read_text(encoding="utf-8").rstrip("\n")

"""The rules that stop a conversation: what each figure is made of, and talks that must stop, or must not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.stops import FAREWELL, Rule, RuleKind, Spoken, Watch, Weighed, weigh
from tests.stops.talks import Talk, spoken, talks

LOOPS = talks("loops")
NORMAL = talks("normal")
REPEATS = talks("repeats")
SHARES: tuple[RuleKind, ...] = ("repetition", "echo", "farewell")
NEVER = 2.0
"""A limit that no share reaches."""
WEATHER = "the barometer has fallen by four points since noon and the cook swears that his knee agrees"
GARDEN = "tulips want a cold winter and a gardener who forgets them under the snow until late in april"


def rules(*kinds: RuleKind, most: float = NEVER) -> list[Rule]:
    return [Rule(kind, most) for kind in kinds]


def stopped(talk: list[Spoken], *these: Rule) -> tuple[int, str] | None:
    """The first turn after which the conversation is over, and why."""
    watch = Watch(these)
    for number, line in enumerate(talk, 1):
        if (why := watch.take(line).stop) is not None:
            return number, why
    return None


def figures(talk: list[Spoken], kind: RuleKind) -> list[float]:
    """The figure after each line that was written."""
    watch = Watch(rules(kind))
    return [weighed.figures[kind] for weighed in map(watch.take, talk) if weighed.figures]


def two(*texts: str) -> list[Spoken]:
    """A talk of a and b, who take turns."""
    return [spoken(role, text) for role, text in zip(cycle("ab"), texts, strict=False)]


# --- phrase ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phrase", "over"),
    [
        ("So be it. [[END]]", "[[END]]", True),
        ("So be it. [[end]]", "[[END]]", False),
        ("the  end\n of it", "end of it", True),
        ("the end of it", " end \n of it ", True),
        ("the end", "the end of it", False),
        ("anything", " ", False),
    ],
)
def test_a_phrase_stops_where_it_stands_whatever_the_spaces(text: str, phrase: str, over: bool) -> None:
    """Letter case counts, white space does not, and a blank phrase stands nowhere."""
    assert weigh([Rule("phrase", phrase=phrase)], [spoken("a", text)]) == Weighed(
        {"phrase": float(over)}, f'phrase: "{" ".join(phrase.split())}" in turn 1' if over else None
    )


def test_a_phrase_counts_in_the_last_line_only() -> None:
    """What was said before, or given, is over."""
    rule = Rule("phrase", phrase="END")
    assert stopped([spoken("a", "END", given=True), spoken("b", "go on"), spoken("b", "the END")], rule) == (
        3,
        'phrase: "END" in turn 3',
    )


def test_of_two_phrases_each_may_stop() -> None:
    """One figure tells that one of them stands there; the reason names which."""
    found = weigh([Rule("phrase", phrase="AMEN"), Rule("phrase", phrase="END")], [spoken("a", "the END")])
    assert found == Weighed({"phrase": 1.0}, 'phrase: "END" in turn 1')
    assert weigh([Rule("phrase", phrase="END"), Rule("phrase", phrase="AMEN")], [spoken("a", "the END")]) == found


# --- repetition and echo -----------------------------------------------------------------------------------------


def test_repetition_is_the_share_of_words_that_stand_in_a_run_said_before() -> None:
    """Half old and half new is one half, whatever the case, the accents and the signs between the words."""
    old, new = WEATHER.split(), GARDEN.split()
    size = min(len(old), len(new))
    mixed = " ".join(old[:size]).upper().replace("E", "É") + "! " + ", ".join(new[:size])
    assert figures(two(WEATHER, "yes", mixed), "repetition")[-1] == 0.5


def test_a_changed_word_takes_out_itself_alone() -> None:
    """So a loop that varies a word each time is still a loop."""
    words = WEATHER.split()
    words[8] = "indeed"
    assert figures(two(WEATHER, "yes", " ".join(words)), "repetition")[-1] == int(100 * 16 / 17) / 100


def test_words_in_another_order_are_no_repetition() -> None:
    """A run is what is said again, not its vocabulary."""
    assert figures(two(WEATHER, "yes", " ".join(reversed(WEATHER.split()))), "repetition")[-1] == 0.0


def test_what_another_said_is_an_echo_and_what_one_said_oneself_is_a_repetition() -> None:
    """Each figure looks at the lines of its own side of the table, given ones included."""
    talk = [spoken("a", WEATHER, given=True), spoken("b", GARDEN), spoken("a", WEATHER), spoken("a", GARDEN)]
    assert figures(talk, "repetition") == [0.0, 1.0, 0.0]
    assert figures(talk, "echo") == [0.0, 0.0, 1.0]


def test_without_spaces_a_run_is_eight_signs() -> None:
    """Four signs are two words, and any two texts share those."""
    seven, eight = "总而言之河流是甲乙丙丁戊己庚辛壬", "总而言之河流是我子丑寅卯辰巳午未"
    talk = two("总而言之河流是我们共同的记忆", "嗯", seven, "嗯", eight)
    assert figures(talk, "repetition") == [0.0, 0.0, 0.0, 0.0, 0.5]


def test_a_repetition_inside_one_line_is_none() -> None:
    """A refrain belongs to its poem."""
    assert figures(two(f"{WEATHER}. {WEATHER}"), "repetition") == [0.0]


@pytest.mark.parametrize("text", ["Go on.", "Could you tell me more about that?", "…", "嗯。"])
def test_a_short_line_is_a_repetition_when_nothing_else_has_been_said_for_four_lines(text: str) -> None:
    """A question may recur, and "No." is an answer; somebody who says one thing for ever is stuck."""
    assert figures([spoken("a", text)] * 5, "repetition") == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert figures([spoken("a", text)] * 3 + [spoken("a", "Why?"), spoken("a", text)], "repetition") == [0.0] * 5
    assert figures(two(*[text] * 8), "echo") == [0.0] * 8


def test_only_the_last_lines_of_each_speaker_are_compared_with() -> None:
    """In a very long talk everything has been said at some time; what lies far back neither counts nor costs."""
    chance = random.Random(5)
    words = [f"w{n}" for n in range(5000)]
    fillers = [" ".join(chance.sample(words, 12)) for _ in range(64)]
    for between, found in ((31, 1.0), (32, 0.0)):
        talk = two(WEATHER, *fillers[: 2 * between + 1], WEATHER)
        assert (figures(talk, "repetition")[-1], figures(talk[:-1], "echo")[-1]) == (found, 0.0)
        assert figures([*talk[:-1], spoken("b", WEATHER)], "echo")[-1] == found


@pytest.mark.parametrize(
    ("name", "rule", "turn", "why"),
    [
        ("same-paragraph", Rule("repetition", 0.6), 9, "repetition: 0.96 of 0.60 in turn 9"),
        ("chinese", Rule("repetition", 0.6), 7, "repetition: 0.97 of 0.60 in turn 7"),
        ("stuck", Rule("repetition", 0.6), 9, "repetition: 1.00 of 0.60 in turn 9"),
        ("parrot", Rule("echo", 0.8), 4, "echo: 0.88 of 0.80 in turn 4"),
        ("parrot", Rule("echo", 0.875), 4, "echo: 0.88 of 0.875 in turn 4"),
        ("parrot", Rule("repetition", 0.6), None, None),
        ("same-paragraph", Rule("echo", 0.8), None, None),
    ],
)
def test_loops_of_repetition_and_echo_stop(name: str, rule: Rule, turn: int | None, why: str | None) -> None:
    """At the first line that says again what was said, with small changes; and not by the other rule."""
    talk = next(talk for talk in REPEATS if talk.name == name)
    assert stopped(talk.lines, rule) == (None if turn is None else (turn, why))


VARIED = (
    "about-farewells", "customer-thanks", "hospice", "language-lesson", "pair-programming", "spanish-workshop",
    "station-role-play", "systems-design", "twenty-questions", "a-scripted-side-says-goodbye",
)  # fmt: skip


@pytest.mark.parametrize("name", VARIED)
def test_a_normal_talk_neither_repeats_nor_echoes(name: str) -> None:
    """Polite formulas and short answers are far from the limits in use."""
    talk = next(talk for talk in NORMAL if talk.name == name)
    assert max(figures(talk.lines, "repetition")) <= 0.1
    assert max(figures(talk.lines, "echo")) <= 0.4


# --- farewell ----------------------------------------------------------------------------------------------------


def test_there_are_enough_talks() -> None:
    """At least twelve of each kind, the normal ones of at least forty turns."""
    assert len(LOOPS) >= 12 and len(NORMAL) >= 12
    assert all(len(talk.lines) >= 40 for talk in NORMAL)
    assert all(talk.loop for talk in LOOPS) and not any(talk.loop for talk in NORMAL)


@pytest.mark.parametrize("talk", LOOPS, ids=lambda talk: talk.name)
def test_a_loop_of_goodbyes_stops_within_two_rounds_of_its_start(talk: Talk) -> None:
    """Not before each side had its goodbye, and not after each side had two; the reason holds the figure."""
    found = stopped(talk.lines, Rule("farewell", FAREWELL))
    assert found is not None
    turn, why = found
    live = len({line.role for line in talk.lines if not line.given})
    said = sum(not line.given for line in talk.lines[talk.loop - 1 : turn])
    assert live <= said <= 2 * live, found
    assert why.startswith("farewell: ") and why.endswith(f" to {turn}") and " of 0.75 in turns " in why


@pytest.mark.parametrize("talk", NORMAL, ids=lambda talk: talk.name)
def test_a_normal_talk_is_not_cut_and_is_not_near_it(talk: Talk) -> None:
    """Also one about farewells, one of thanks in each turn, letters with their formulas, a deathbed, a platform."""
    assert stopped(talk.lines, Rule("farewell", FAREWELL)) is None
    assert max(figures(talk.lines, "farewell")) <= FAREWELL - 0.1


@pytest.mark.parametrize(
    ("name", "thanks"),
    [
        ("chinese-repair", "感谢您！"),
        ("german-helpdesk", "Vielen Dank. "),
        ("japanese-umbrella", "ありがとうございます。"),
        ("pair-programming", "Thank you. "),
        ("polish-library", "Dziękuję. "),
        ("russian-watchmaker", "Спасибо. "),
        ("spanish-workshop", "Gracias. "),
    ],
)
def test_thanks_before_each_line_make_no_loop_of_a_talk(name: str, thanks: str) -> None:
    """Politeness is no leave, in scripts without spaces either, where each sign counts as a word."""
    lines = next(talk.lines for talk in NORMAL if talk.name == name)
    polite = [line._replace(text=thanks + line.text) for line in lines]
    assert max(figures(polite, "farewell")) <= FAREWELL - 0.1


@pytest.mark.parametrize("talk", LOOPS, ids=lambda talk: talk.name)
def test_goodbyes_of_a_scripted_side_never_stop(talk: Talk) -> None:
    """A loop of two is none when one of them reads from a script; nor is one that nobody generates."""
    roles = sorted({line.role for line in talk.lines})
    one_live = [line._replace(given=line.given or line.role != roles[0]) for line in talk.lines]
    assert stopped(one_live, Rule("farewell", 0.01)) is None
    assert stopped([line._replace(given=True) for line in talk.lines], Rule("farewell", 0.01)) is None


def test_a_talk_that_ends_with_one_goodbye_of_each_is_not_cut() -> None:
    """What the job planned is the end, and not a loop."""
    talk = [*next(talk for talk in NORMAL if talk.name == "hospice").lines]
    ends = [spoken("nurse", "Good night, and goodbye."), spoken("patient", "Goodbye, and thank you.")]
    assert stopped([*talk, *ends], Rule("farewell", FAREWELL)) is None


def test_after_a_goodbye_a_talk_may_go_on() -> None:
    """Whoever has something left to say breaks the loop, and what was said before it counts no more."""
    bye = ["Goodbye, my friend!", "Goodbye!", "Take care!"]
    more = ["Wait, the barometer: it fell four points since noon, and the cook blames his knee.",
            "Then reef the topsail, call the mate, and nail the tulips down before the squall."]  # fmt: skip
    assert stopped(two(*[*bye, *more] * 4), Rule("farewell", FAREWELL)) is None


def test_three_games_of_single_words_are_no_goodbyes() -> None:
    """Tiny lines count as part of a goodbye only after one."""
    moves = random.Random(3)
    rounds = [moves.choice(["Rock.", "Paper.", "Scissors."]) for _ in range(40)]
    assert max(figures(two(*rounds), "farewell")) == 0.0
    assert max(figures(two(*(f"{n}." for n in range(40))), "farewell")) == 0.0
    assert max(figures(two(*["✊", "…", "*nods*", "…"] * 10), "farewell")) == 0.0


def test_after_a_goodbye_tiny_lines_are_part_of_it() -> None:
    """Loops wear down to single words and gestures, and are no less loops for that."""
    assert figures(two("Goodbye!", "Take care!", "Always.", "*waves back*"), "farewell")[-1] >= FAREWELL


def test_a_long_goodbye_weighs_a_little_less_than_a_short_one() -> None:
    """For a while: in a talk of such lines it is not long."""
    assert figures(two(*["Goodbye, dear friend! " * 25] * 4), "farewell")[-1] == 0.89
    assert figures(two(*["Goodbye, dear friend! " * 9] * 4), "farewell")[-1] == 0.99


def test_a_word_is_no_courtesy_because_a_short_one_stands_in_its_beginning() -> None:
    """ "Car" is dear in Italian, and no beginning of carpets."""
    carpets = two("Goodbye!", "Goodbye! Carpets, benches, bombs, hopscotch.", "Goodbye!", "Goodbye!")
    mittens = two("Goodbye!", "Goodbye! Mittens, ferries, drums, peppercorn.", "Goodbye!", "Goodbye!")
    assert figures(carpets, "farewell") == figures(mittens, "farewell")


def test_the_same_goodbyes_weigh_less_when_they_ask_or_tell_something() -> None:
    """A question wants an answer, and new words are news."""
    plain = figures(two("Goodbye!", "Goodbye, take care!", "Goodbye!", "Take care!"), "farewell")[-1]
    asking = figures(two("Goodbye?", "Goodbye, take care?", "Goodbye?", "Take care?"), "farewell")[-1]
    telling = figures(
        two(
            "Goodbye! The ferry sank at Split.",
            "Goodbye, take care! Who drowned, the captain or his parrot?",
            "Goodbye! Neither, a lorry of figs did.",
            "Take care! Figs float, ask any grocer.",
        ),
        "farewell",
    )[-1]
    assert plain == 1.0 and asking == 0.75 and telling < 0.6


# --- tokens, cost, time ------------------------------------------------------------------------------------------


def test_tokens_are_summed_over_what_was_generated() -> None:
    """Reached is over; a given line has none, whatever it says of itself."""
    talk = [spoken("a", "x", output=600), spoken("b", "x", given=True, output=5000), spoken("a", "x", output=400)]
    assert stopped(talk, Rule("tokens", 1000)) == (3, "tokens: 1,000 of 1,000 after turn 3")
    assert figures(talk, "tokens") == [600.0, 1000.0]


def test_tokens_that_nobody_counted_are_estimated_by_bytes_and_told() -> None:
    """Four bytes a token, rounded up; thinking that was not counted is not guessed."""
    talk = [spoken("a", "ä" * 9), spoken("b", "x" * 9)]
    assert figures(talk, "tokens") == [5.0, 8.0]
    assert stopped(talk[:1], Rule("tokens", 5)) == (1, "tokens: 5 of 5 after turn 1, 1 line of it estimated")
    assert stopped(talk, Rule("tokens", 8)) == (2, "tokens: 8 of 8 after turn 2, 2 lines of it estimated")


def test_cost_is_what_all_lines_have_cost() -> None:
    """In whole nano-dollars, to the last of them."""
    talk = [Spoken("a", "x", False, 1, 150_000_000, 1.0), Spoken("b", "x", False, 1, 49_999_999, 2.0)]
    talk += [Spoken("b", "x", True, 1, 10**9, 2.0), Spoken("a", "x", False, 1, 1, 3.0)]
    assert stopped(talk, Rule("cost", 200_000_000)) == (4, "cost: $0.2 of $0.2 after turn 4")


def test_time_is_since_the_beginning() -> None:
    """At the end of a line that was written."""
    talk = [Spoken("a", "x", False, 1, 0, 1799.5), Spoken("b", "x", True, 1, 0, 1900.0)]
    talk += [Spoken("a", "x", False, 1, 0, 2000.0)]
    assert stopped(talk, Rule("time", 1800)) == (3, "time: 2,000 s of 1,800 s after turn 3")


# --- all of them -------------------------------------------------------------------------------------------------

ALL = [
    Rule("phrase", phrase="bye"), Rule("repetition", 0.6), Rule("echo", 0.8), Rule("farewell", FAREWELL),
    Rule("tokens", 40), Rule("cost", 50), Rule("time", 60),
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([WEATHER, GARDEN, "Goodbye!", "Thank you, bye!", "👋", "", "\ud800", "再见", "OK?"]),
    st.lists(st.sampled_from(["thank", "you", "goodbye", "dear", "the", "salt", "tax"]), max_size=20).map(" ".join),
)
LINES = st.builds(
    Spoken,
    role=st.sampled_from("abc"),
    text=TEXTS,
    given=st.booleans(),
    output=st.none() | st.integers(0, 30),
    cost=st.integers(0, 30),
    after=st.floats(0, 100),
)


@given(st.lists(LINES, max_size=14))
@settings(deadline=None, max_examples=30)
def test_a_watch_that_is_kept_says_what_a_fresh_one_says(talk: list[Spoken]) -> None:
    """After each line: so a conversation that is resumed stops where it would have stopped."""
    watch = Watch(ALL)
    for number, line in enumerate(talk, 1):
        assert watch.take(line) == weigh(ALL, talk[:number])


@given(st.lists(LINES, max_size=14))
@settings(deadline=None, max_examples=30)
def test_shares_are_shares_in_hundredths_and_each_rule_has_its_figure(talk: list[Spoken]) -> None:
    """From 0 to 1, whatever was said; what is judged is what is shown."""
    watch = Watch(ALL)
    for line in talk:
        found = watch.take(line).figures
        assert set(found) == (set() if line.given else {rule.kind for rule in ALL})
        assert all(0 <= found[kind] <= 1 and found[kind] == round(found[kind], 2) for kind in SHARES if kind in found)


@given(st.lists(LINES.map(lambda line: line._replace(given=True)), max_size=12))
@settings(deadline=None, max_examples=30)
def test_given_lines_alone_never_stop(talk: list[Spoken]) -> None:
    """Nor do they have figures, not even with limits of nothing."""
    watch = Watch([Rule("phrase", phrase="e"), *rules(*SHARES, "tokens", "cost", "time", most=0.0)])
    assert all(watch.take(line) == Weighed({}, None) for line in talk)


@given(st.lists(LINES, min_size=1, max_size=12), st.permutations(ALL))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_rules_decides_the_words_alone(talk: list[Spoken], shuffled: list[Rule]) -> None:
    """Whether it is over, and every figure, is the same in any order; the reason is the first rule that is over."""
    one, other = weigh(ALL, talk), weigh(shuffled, talk)
    assert one.figures == other.figures and (one.stop is None) == (other.stop is None)
    over = [rule.kind for rule in shuffled if weigh([rule], talk).stop is not None]
    assert (over[0] if over else None) == (other.stop and other.stop.partition(":")[0])


@given(st.lists(LINES, max_size=10), st.permutations("abc"))
@settings(deadline=None, max_examples=30)
def test_names_of_roles_do_not_matter(talk: list[Spoken], names: list[str]) -> None:
    """Who is called what changes no figure."""
    renamed = [line._replace(role=names["abc".index(line.role)]) for line in talk]
    assert weigh(ALL, renamed) == weigh(ALL, talk)


def test_no_rules_have_no_figures_and_no_lines_no_verdict() -> None:
    """A conversation without rules is never over by one, and one that has not begun is not over."""
    assert weigh([], two("Goodbye!", "Goodbye!")) == Weighed({}, None)
    assert weigh(ALL, []) == Weighed({}, None)


@pytest.mark.parametrize(
    "text", ["goodbye " + "a" * 600_000, "goodbye " * 9_000, "\u0301" * 90_000, "ﷺ" * 3_000, "再" * 20_000]
)
def test_a_text_made_to_be_slow_is_weighed_all_the_same(text: str) -> None:
    """One endless word, endless goodbyes, accents on nothing, signs that grow when they are taken apart."""
    found = weigh(rules(*SHARES), two(text, "yes", text))
    assert all(0 <= found.figures[kind] <= 1 for kind in SHARES)


def test_a_talk_without_end_is_weighed_line_by_line_with_the_same_work() -> None:
    """What is remembered after a thousand lines is no more than after a hundred."""
    chance = random.Random(7)
    words = [f"w{n}" for n in range(3000)]
    watch = Watch(ALL)
    held = []
    for number, role in enumerate(islice(cycle("ab"), 1001)):
        watch.take(spoken(role, " ".join(chance.choices(words, k=20))))
        if number % 100 == 0:
            held.append(_held(watch))
    assert held[0] < held[1]
    assert max(held[1:]) <= held[1] * 1.05


def _held(thing: object) -> int:
    """How many things are within reach of this one, by its attributes and its collections."""
    if isinstance(thing, Mapping):
        return sum(_held(value) for value in thing.values())
    if isinstance(thing, Iterable) and not isinstance(thing, str):
        return sum(_held(value) for value in thing)
    return 1 + sum(_held(value) for value in getattr(thing, "__dict__", {}).values())

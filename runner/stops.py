"""What ends a conversation before its last line: rules over what was said, each with the figure it judged by.

- A line that a model wrote is weighed, with all that was said before it; a given line is compared with, and no more.
- A rule is over when its figure reaches its limit; the first such rule of the list is the reason.
- Shares are rounded down to hundredths, so what is shown is what was judged.
- Of texts a bounded number of lines is remembered: a long talk is no dearer by the line than a short one, and does not
  end because in so many pages everything has been said before.

Pure: the same lines give the same figures, in any process and at any time.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias
from zlib import crc32

from runner.money import Nanos, dollars

RuleKind: TypeAlias = Literal["phrase", "repetition", "echo", "farewell", "tokens", "cost", "time"]

FAREWELL: Final = 0.75
"""Where `farewell` stops when the job names no limit."""

_REMEMBERED: Final = 32
"""So many of each speaker's lines are compared with."""
_RUN: Final = 4
"""So many words in a row are said again; fewer meet by chance."""
_RUN_OF_SIGNS: Final = 8
"""The same where a script puts no spaces between words, so that each sign counts as one."""
_STUCK: Final = 4
"""A line shorter than two runs is a repetition when its speaker says it so many times on end: "Go on." may recur."""
_BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it watches, and from where on it stops."""

    kind: RuleKind
    most: float = 0.0
    """A share of 0 to 1, tokens, nano-dollars or seconds, as the kind has it."""
    phrase: str = ""


class Spoken(NamedTuple):
    """A line that was said, as the rules look at it."""

    role: str
    text: str
    given: bool
    """True when no model wrote it: it is compared with, but never stops anything."""
    output: int | None
    """The tokens that its provider counted."""
    cost: Nanos
    """What the attempt that was accepted has cost."""
    after: float
    """Seconds from the beginning of the conversation to its end."""


class Weighed(NamedTuple):
    """What the rules make of the last line."""

    figures: Mapping[str, float]
    """By the kind of the rule."""
    stop: str | None
    """Why the conversation is over; None when it is not."""


def weigh(rules: Sequence[Rule], spoken: Iterable[Spoken]) -> Weighed:
    """What the rules make of the last of these lines, which are all that was said."""
    watch, weighed = Watch(rules), Weighed({}, None)
    for line in spoken:
        weighed = watch.take(line)
    return weighed


class Watch:
    """The rules of one conversation, and what they remember of it: line for line the same as weighing all anew."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._kinds = {rule.kind for rule in rules}
        self._sayings = _Sayings()
        self._partings = _Partings()
        self._lines = 0
        self._tokens = 0
        self._estimated = 0
        self._cost: Nanos = 0

    def take(self, line: Spoken) -> Weighed:
        """What the rules make of the line that comes next."""
        self._lines += 1
        words = _words(line.text) if self._kinds & {"repetition", "echo", "farewell"} else []
        repetition = echo = farewell = 0.0
        if self._kinds & {"repetition", "echo"}:
            repetition, echo = self._sayings.take(line, words)
        if "farewell" in self._kinds:
            farewell = self._partings.take(self._lines, line, words)
        if line.given:
            return Weighed({}, None)
        if line.output is None:
            self._estimated += 1
            self._tokens += -(-len(line.text.encode(errors="replace")) // _BYTES_PER_TOKEN)
        else:
            self._tokens += line.output
        self._cost += line.cost
        shares = {"repetition": repetition, "echo": echo, "farewell": farewell}
        sums = {"tokens": float(self._tokens), "cost": float(self._cost), "time": line.after}
        figures: dict[str, float] = {}
        stop: str | None = None
        for rule in self._rules:
            if rule.kind == "phrase":
                figure, most = float(_holds(line.text, rule.phrase)), 1.0
                figures["phrase"] = max(figure, figures.get("phrase", 0.0))
            else:
                figure, most = (shares | sums)[rule.kind], rule.most
                figures[rule.kind] = figure
            if stop is None and figure >= most:
                stop = self._why(rule, figure)
        return Weighed(figures, stop)

    def _why(self, rule: Rule, figure: float) -> str:
        match rule.kind:
            case "phrase":
                return f'phrase: "{_spaced(rule.phrase)}" in turn {self._lines}'
            case "repetition" | "echo":
                return f"{rule.kind}: {figure:.2f} of {_limit(rule.most)} in turn {self._lines}"
            case "farewell":
                since = self._partings.since
                return f"farewell: {figure:.2f} of {_limit(rule.most)} in turns {since} to {self._lines}"
            case "tokens":
                lines = "1 line" if self._estimated == 1 else f"{self._estimated} lines"
                guess = f", {lines} of it estimated" if self._estimated else ""
                return f"tokens: {figure:,.0f} of {rule.most:,.0f} after turn {self._lines}{guess}"
            case "cost":
                return f"cost: ${dollars(self._cost)} of ${dollars(int(rule.most))} after turn {self._lines}"
            case "time":
                return f"time: {figure:,.0f} s of {rule.most:,.0f} s after turn {self._lines}"


def _limit(most: float) -> str:
    return f"{most:.2f}" if round(most, 2) == most else f"{most:g}"


def _hundredths(share: float) -> float:
    # The addend, because 0.29 * 100 is 28.999999999999996.
    return int(min(1.0, max(0.0, share)) * 100 + 1e-9) / 100


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _holds(text: str, phrase: str) -> bool:
    sought = _spaced(phrase)
    return bool(sought) and sought in _spaced(text)


# --- words -------------------------------------------------------------------------------------------------------

_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese: no spaces tell where their words end."""
_WORD: Final = re.compile(f"[{_UNSPACED}👋🙏🤗💛💙💜❤✨🌙🌟🫂]|[^\\W_{_UNSPACED}]+")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_SIGN: Final = re.compile(f"[{_UNSPACED}]")


def _words(text: str) -> list[str]:
    """Its words without case, accents and punctuation; each sign is a word where a script has no spaces."""
    if not text.isascii():
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return _WORD.findall(text.casefold())


def _marks(words: Iterable[str]) -> array[int]:
    """Short marks of words; not `hash`, which differs from process to process."""
    return array("I", [crc32(word.encode()) for word in words])


# --- said before -------------------------------------------------------------------------------------------------


class _Sayings:
    """How much of a line was said before: the share of its words that stand in a run of words said before.

    A word that was changed takes out itself, and no more as long as a run is left between it and the next change.
    """

    def __init__(self) -> None:
        self._runs: dict[str, deque[array[int]]] = {}
        self._last: dict[str, tuple[str, int]] = {}

    def take(self, line: Spoken, words: Sequence[str]) -> tuple[float, float]:
        """How much of it its speaker said before, and how much the others."""
        signs = sum(1 for word in words if _SIGN.match(word))
        size = _RUN_OF_SIGNS if signs * 2 > len(words) else _RUN
        runs = _marks(" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
        own = self._runs.setdefault(line.role, deque(maxlen=_REMEMBERED))
        others = [run for role, lines in self._runs.items() if role != line.role for run in lines]
        text = " ".join(words) or _spaced(line.text)
        before, times = self._last.get(line.role, ("", 0))
        times = times + 1 if text == before else 1
        self._last[line.role] = text, times
        if len(words) >= 2 * size:
            found = _again(runs, size, own), _again(runs, size, others)
        else:
            found = float(times >= _STUCK), 0.0
        own.append(runs)
        return found


def _again(runs: array[int], size: int, earlier: Iterable[array[int]]) -> float:
    mine = set(runs)
    known: set[int] = set()
    for line in earlier:
        known |= mine.intersection(line)
    again = end = 0
    for at, run in enumerate(runs):
        if run in known:
            again += at + size - max(at, end)
            end = at + size
    return _hundredths(again / (len(runs) + size - 1))


# --- goodbyes without end ----------------------------------------------------------------------------------------

_RECENT: Final = 12
"""A word said in so many lines before is nothing new."""
_STEM: Final = 6
"""Words that begin alike are taken for forms of one word."""
_BRIEF: Final = 30
"""So many words are short in any talk; in a talk of long lines, half their mean length."""
_TINY: Final = 5
"""After a goodbye so few words belong to it, whatever they are: "Always.", "*waves*", a moon."""
_COURTEOUS: Final = 0.1
"""What a word of courtesy weighs that was not said before, where any other new word weighs 1."""
_THANKS: Final = 0.9
"""What thanks weigh as a sign of leave, where a goodbye weighs 1."""


class _Partings:
    """How much of the last two rounds was goodbyes and nothing else.

    Each line is judged by itself: it takes leave or thanks, adds hardly a word to what was said, asks nothing, is not
    long. The figure is the mean over the last two lines for each side that a model speaks for, and lower where one of
    them has something to say; where only one side is live, there is no loop.
    """

    def __init__(self) -> None:
        self._said: deque[array[int]] = deque(maxlen=_RECENT)
        self._live: set[str] = set()
        self._window: deque[tuple[int, str, float]] = deque()
        self._written = 0
        self._length = 0

    @property
    def since(self) -> int:
        """The turn with which the rounds begin that the figure is about."""
        return self._window[0][0]

    def take(self, number: int, line: Spoken, words: Sequence[str]) -> float:
        """The figure after this line, which is the turn of this number."""
        leave, rest = _parted(words)
        # Where each sign is a word, two of them say what elsewhere one does.
        length = len(words) - sum(1 for word in words if _SIGN.match(word)) // 2
        if not line.given:
            if self._window and self._window[-1][2] >= 0.5 and length <= _TINY:
                leave = max(leave, _THANKS)
            usual = self._length / self._written if self._written else 0.0
            parting = _parting(line.text, length, leave, self._fresh(rest), usual) if leave else 0.0
            self._live.add(line.role)
            self._written += 1
            self._length += length
            self._window.append((number, line.role, parting))
            while len(self._window) > 2 * len(self._live):
                self._window.popleft()
        self._said.append(_marks({word[:_STEM] for word in rest}))
        if len({role for _, role, _ in self._window}) < 2:
            return 0.0
        partings = [parting for _, _, parting in self._window]
        # Beside three goodbyes, a line that is none at all must weigh more than a quarter.
        return _hundredths(sum(partings) / (2 * len(self._live)) * min(1.0, 0.9 + min(partings)))

    def _fresh(self, words: Iterable[str]) -> float:
        """How many of these words were not said lately, those of courtesy counted low."""
        weights: dict[str, float] = {}
        for word in words:
            weight = _COURTEOUS if _is_courtesy(word) else 1.0
            weights[word[:_STEM]] = max(weight, weights.get(word[:_STEM], 0.0))
        new = dict(zip(_marks(weights), weights.values(), strict=True))
        for said in self._said:
            for mark in new.keys() & set(said):
                del new[mark]
        return sum(new.values())


def _parting(text: str, length: int, leave: float, fresh: float, usual: float) -> float:
    """From 0 to 1: how much a line is a goodbye and nothing else."""
    brief = max(_BRIEF, usual / 2)
    long = min(1.0, max(0.0, length / brief - 1.0))
    asks = "?" in text or "？" in text
    # Thanks stand in any polite talk, so fewer new words are forgiven beside them than beside a goodbye.
    room = min(16.0, 5 + length / 3) if leave == 1.0 else min(15.0, max(length, 10) / 3)
    return leave * (0.75 if asks else 1.0) * (1.0 - 0.1 * long) * max(0.0, 1.0 - fresh / room)


def _parted(words: Sequence[str]) -> tuple[float, list[str]]:
    """How surely these words take leave, and the others of them, without the small ones."""
    leave = 0.0
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        for phrase, weight in _CLOSINGS.get(word, ()):
            if tuple(words[at : at + len(phrase)]) == phrase:
                leave = max(leave, weight)
                at += len(phrase)
                break
        else:
            at += 1
            if word not in _SMALL and not (len(word) == 1 and word.isascii() and word.isalpha()):
                rest.append(word)
    return leave, rest


def _is_courtesy(word: str) -> bool:
    # Short words count as they are only: "bel" is no beginning of "belief".
    return any(word[:end] in _COURTESY for end in range(min(4, len(word)), min(len(word), _LONGEST) + 1))


_LEAVE: Final = """
all the best, be well, best of luck, best wishes, bye, bye now, cheerio, enjoy your, fare thee well, fare well
farewell, farewells, go gently, go in peace, go well, godspeed, good bye, good luck, good night, goodbye, goodbyes
goodnight, have a beautiful, have a fantastic, have a good, have a great, have a lovely, have a nice
have a peaceful, have a wonderful, looking forward to it, namaste, peace be with, rest in peace, rest well
safe journey, safe journeys, safe travels, see ya, see you, signing off, sleep well, so long for now, stay well
take care, talk soon, talk to you, till next time, till then, till we meet, travel well, until again, until another
until next time, until our, until the next, until then, until tomorrow, until we meet, until we speak, until we talk
walk in peace, warm wishes
blessed be, fair winds, go forth, go softly, i bid you, last bow, may the road, may the stars, may the tide
may the wind, may you, may your, sweet dreams, we part
ade, alles gute, auf wiederhören, auf wiederlesen, auf wiedersehen, bis bald, bis dahin, bis dann, bis demnächst
bis dienstag, bis donnerstag, bis freitag, bis mittwoch, bis montag, bis morgen, bis nächste, bis samstag
bis sonntag, bis wir uns, bis zum nächsten, bleib gesund, ciao, gehab dich wohl, gute nacht, gute reise
komm gut heim, kommt gut heim, leb wohl, lebe wohl, leben sie wohl, lebewohl, liebe grüße, mach's gut
machen sie es gut, machs gut, man sieht sich, pass auf dich auf, passen sie auf sich auf, schlaf gut, schöne grüße
schönen abend, schönen tag, schönes wochenende, servus, tschau, tschüs, tschüss, tschüssi, viele grüße
viele liebe grüße, wiedersehen
friede sei mit, friede sei auch mit, möge dein, möge der, möge die, mögen deine, mögen sie, mögest du, so scheide ich
adieu, amitiés, au plaisir, au revoir, bien à toi, bien à vous, bises, bisous, bon voyage, bon week-end
bonne continuation, bonne journée, bonne nuit, bonne route, bonne soirée, je t'embrasse, je vous embrasse
jusqu'à la prochaine, jusqu'à notre prochaine, porte-toi bien, portez-vous bien, prends bien soin, prends soin
prenez bien soin, prenez soin, salut, à bientôt, à demain, à jeudi, à la prochaine, à lundi, à très bientôt
à vendredi
adiós, besos, buen viaje, buenas noches, chao, chau, cuídate, cuídense, cuídese, feliz día, feliz noche
hasta el jueves, hasta el lunes, hasta el sábado, hasta el domingo
hasta el martes, hasta el viernes, hasta entonces, hasta la próxima, hasta la vista
hasta luego, hasta mañana, hasta otra, hasta pronto, hasta siempre, nos vemos, que descanse, que descanses
que le vaya bien, que te vaya bien, que tenga, que tengas, saludos, un abrazo, un besazo, un cordial saludo, un saludo
adeus, até a próxima, até amanhã, até breve, até já, até logo, até mais, até segunda, até sempre, até sexta
até à próxima, beijinhos, beijos, boa noite, boa viagem, bom descanso, cuida-te, cuide-se, fica bem, fique bem
se cuida, tchau, tem um bom, tenha um, tudo de bom, um abraço, um bom dia, um grande abraço
a domani, a lunedì, a presto, a risentirci, a venerdì, abbi cura, addio, alla prossima, arrivederci, arrivederla
baci, buon proseguimento, buon viaggio, buona giornata, buona notte, buona serata, buonanotte, ci sentiamo
ci vediamo, notte, si riguardi, stammi bene, stia bene, un abbraccio
dag, doeg, doei, fijn weekend, fijne avond, fijne dag, goede reis, goedenacht, groetjes, het beste, het ga je goed
hou je goed, houd je goed, pas goed op jezelf, prettige avond, prettige dag, slaap lekker, tot dan, tot de volgende
tot dinsdag, tot donderdag, tot gauw, tot later, tot maandag, tot morgen, tot snel, tot straks, tot volgende
tot vrijdag, tot we elkaar, tot woensdag, tot zaterdag, tot ziens, tot zondag, vaarwel, welterusten
береги себя, берегите себя, будь здоров, будьте здоровы, в добрый путь, всего вам, всего доброго, всего наилучшего
всего тебе, всего хорошего, до вечера, до завтра, до новых встреч, до понедельника, до пятницы, до свидания
до связи, до скорого, до скорой встречи, до следующего раза, до следующей встречи, до встречи, доброй ночи
доброго вам, доброго пути, доброго тебе, не прощаюсь, ну пока, обнимаю, пока пока, прощай, прощайте, сладких снов
спокойной ночи, созвонимся, счастливо, счастливого пути, увидимся, удачи, хорошего вечера, хорошего дня
хороших выходных, целую
bywaj, dbaj o siebie, do jutra, do następnego, do poniedziałku, do usłyszenia, do widzenia, do zobaczenia, dobranoc
dobrej nocy, miłego dnia, miłego weekendu, miłego wieczoru, na razie, pa pa, powodzenia, serdecznie pozdrawiam
spokojnej nocy, szerokiej drogi, trzymaj się, trzymajcie się, udanego dnia, udanego wieczoru, uważaj na siebie
wszystkiego dobrego, wszystkiego najlepszego, ściskam, żegnaj, żegnajcie, żegnam
再见, 再見, 再会, 再會, 拜拜, 保重, 珍重, 晚安, 告辞, 告辭, 后会有期, 後會有期, 一路平安, 一路顺风, 一路順風, 下次见
下次見, 下次再聊, 改天再聊, 改天见, 改天見, 回头见, 明天见, 明天見, 慢走, 祝你, 祝您, 期待下次
さようなら, さよなら, またね, じゃあね, じゃあまた, ではまた, それではまた, また明日, また今度, また会いましょう
またいつか, またお会い, またお話, お元気で, お気をつけて, おやすみ, お大事に, ごきげんよう, バイバイ, 良い一日を
良い夜を, よい一日を, よい夜を, 良い週末を
👋
"""
"""What people say when they go."""
_THANK: Final = """
a joy, a pleasure, a privilege, an honor, an honour, and you, i thank you, likewise, my pleasure, same to you, thank
thank u, thank you, thanks, the honor, the honour, the pleasure, the privilege, you are welcome, you too
you're welcome
dank dir, dank ihnen, danke, danke schön, dir auch, ebenso, es war mir, gern geschehen, gerne, gleichfalls
habt dank, herzlichen dank, ich danke, ihnen auch, vielen dank
avec plaisir, de même, de rien, je t'en prie, je te remercie, je vous en prie, je vous remercie, merci, pareillement
toi aussi, vous aussi, à vous aussi
de nada, el placer, gracias, ha sido un, igualmente, le agradezco, muchas gracias, te agradezco, un placer
agradeço, eu é que, foi um, igualmente, muito obrigada, muito obrigado, o prazer, obrigada, obrigado, um prazer
altrettanto, anche a lei, anche a te, grazie, il piacere, la ringrazio, mille grazie, prego, ti ringrazio
un piacere, è stato un
bedankt, dank je, dank u, dankjewel, dankuwel, graag gedaan, het was me, insgelijks, jij ook, jou ook, u ook
благодарю, большое спасибо, был рад, была рада, взаимно, и вам, и тебе, мне было приятно, не за что, признателен
признательна, рад был, рада была, спасибо
było mi miło, cała przyjemność, dziękuję, dzięki, ja również, nawzajem, nie ma za co, wielkie dzięki, wzajemnie
谢谢, 謝謝, 感谢, 感謝, 多谢, 多謝, 不客气, 不客氣, 不用谢, 荣幸, 榮幸
ありがとう, こちらこそ, どういたしまして, お世話になりました, お疲れ様, 光栄
🙏 🤗 💛 💙 💜 ❤ 🫂 ✨ 🌙 🌟
"""
"""What people say beside it, and also without going."""


def _phrases(*weighed: tuple[str, float]) -> Mapping[str, Sequence[tuple[tuple[str, ...], float]]]:
    """The phrases by their first word."""
    found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for text, weight in weighed:
        for phrase in re.split(r"[,\n]|(?<=\W) (?=\W)", text):
            if words := tuple(_words(phrase)):
                found.setdefault(words[0], []).append((words, weight))
    return found


_CLOSINGS: Final = _phrases((_LEAVE, 1.0), (_THANK, _THANKS))

_COURTESY: Final = frozenset(
    _words(
        """
        acknowledg always anytime appreciat beaut bless bold bow bows bright brilliant care carr chat cheer
        cherish clos conclud convers cross day days dear deep delight depart dialog dream end enjoy enrich
        evening ever excellent exchang fantastic farewell feel fellow final fond forward friend fulfil full
        generous gentl gift giv glad glow goodby grac grand grat great guidance guide happ heart hello hold
        home honor honour hop hug insight inspir journey joy keep kind laugh leav light listen look lot love
        luck luminous meaning meet memor mine moment morning namaste next nice night nod ode parting path
        peac perfect pleas plent poet polit privileg professor pure quiet rare remember respect rest return
        reward rich sacred safe shar silenc sincer sing sleep smil song soon soul speak special spent spirit
        spok star stay step still sun sweet swift talk thank thought time today together tomorrow tonight
        touch travel treasur tru truly until vast wait walk warm wav week welcom well whisper wind wisdom
        wish wonder word
        compan dark dawn dusk ember flame glimmer gold harbor harbour hear horizon hush kindl lantern lean moon
        needs shore silver soft stars thread tide traveler traveller wake warmth wherever
        abend abschied alles anregend austausch bereicher besten bewahr bleib dank ehre erinner freu frieden
        frohes gedank gemeinsam gern gesprach gluck grus gut herz heute inspirier lachel lieb mitnehm morgen
        nacht reise ruhe schon schweig segen still stund tag tage umarm unterhalt verabschied verbund warm
        weg wert woche worte wunder wunsch zeit zuhor zukunft zusammen
        behut entzund ewig flamm fluss friede funke gefahrt gnadig hell horizont klang laterne leucht licht mond
        morgenrot scheide seele segne sonne stern strahl stunde traum verneig wander
        accompagn agreabl aimable amical amie amis amiti baiser beau belle bientot bise bonheur chaleur
        chanc cher coeur convers demain discussion douc echang embrasse emport enchant enrichi excellent
        garde grac gratitud honneur infini inspir instant journee lumiere merci merveil mille moment nuit
        paix parole partag pensee plaisir precieu profond ravi reconnais rencontr repos retrouv revoir riche
        sagess semaine silenc sincer soiree souhait sourir souvenir tendre vive voeux voyage vrai
        guapa guapo abraz agradec alegr amab amig amistad bello bendic besos bien bonit buen carin charla compart
        convers corazon cordial deseo despid dia dialog dias disfrut encant encuentr enriquec espero
        excelente felic gran gust hermos honor hoy igual inspir luz manana maravill mejor noche palabr paz
        placer preci profund pronto recuerd saludo semana silenci sincer suerte tarde tiempo verdader vida
        abrac alegri amavel amiz beijinh beijo bel boa bom bons carinh compartilh conversa coracao descans
        desej despedi dia dialog encontr enriqueced esper excelente felic feliz grat hoje honra inspira
        lembr luz maravilh melhor noite otim palavr partilh paz prazer profund querid recorda sabedor saude
        semana silenci sincer sorr sort tempo verdad
        abbracc amic augur bell ben buon car cara carissim caro chiacchier compagni condivi conversa cuor
        dialog domani fatto felic forte gentil gioia giornat grat incontr ispira lieto luce meravigli moment
        notte oggi onor pace parol piacer prezios profond ricord salut sara scambi serata sereno settiman
        silenzi sincer sorris splendid tempo vero viagg vita
        afscheid allemaal alvast avond bijzonder dagen dankba eer fijn gedachte geluk genoeg genot gesprek
        goed graag groet hart herinner hoop iedereen inspir lach leven lief mooi morgen nacht ontmoet
        plezier rust samen stilte thuis tijd top uitwissel vaarwel vandaag verrijk vrede vriend waarde warm
        weekend wens wijs woorden
        береги берегит бесед благод вами вдохн вечер взаимн встреч глубок горяч добр доброт дорог друг друз
        душ душой завтр замечат звезд здоров искрен крепк любов любим мгнов мечт мир мира мысл надеюсь наслажд
        нежн ночь ночи общен обним огромн отдых памят пожелан поболта покой поко прекрасн приятн прощан пусть
        пути путь рад рады радост разговор самог светл свет сердц сердеч скор слов снов снова спокойн счаст
        тепл теплым тишин удач удовольств улыб утро хорош целую чудесн
        cała całego ciepl ciepło cudown dobra dobre dobry dobrego droga drogi drogie dusz dzien dnia głębok
        inspiruj jutr kochan kolej mądr miło miły noc nocy nadziej pamię piękn pokoj pomyśln przyjaci przyjemno
        pozdraw radość rozmow sen snów serc serdecz słow spokojn spotkan szczęści szczer światł uśmiech wdzięczn
        wieczor wieczór wspani wspólnie wspomnie życz
        友 愛 爱 安 保 别 別 珍 重 祝 愿 願 快 乐 楽 樂 幸 福 心 情 感 激 恩 话 話 談 谈 聊 天 次 明 日 夜 晚 早 好
        美 真 很 太 深 温 暖 光 星 月 风 風 清 夢 梦 平 和 静 靜 顺 順 利 路 途 旅 伴 同 行 时 時 间 間 刻 今 来 來
        年 见 見 会 會 期 待 再 后 後 有 缘 緣 分 享 知 识 智 慧 言 語 语 词 詞 句 笑 喜 欢 歡 高 兴 興 荣 榮 誉 尊
        敬 先 生 师 君 您 休 息 睡 体 體 気 气 元 良 過 过 送 礼 禮 世 末 週 周 忘 忆 憶 念 思 記 记 共 岁 歲 与 與
        席 厚
        """
    )
)
"""How the words begin that goodbyes are made of: said for the first time, they are hardly anything new."""
_LONGEST: Final = max(map(len, _COURTESY))

_SMALL: Final = frozenset(
    _words(
        """
        about after again all also am an and any are as at back be been before being both but by can could
        did do does doing don each even ever every for from get go going good had has have having he her
        here him his how if in into is isn it its just let ll may me might more most much must my never no
        nor not now of off oh ok okay on once one only or other our out over own re really same shall she
        should so some such take than that the their them then there these they this those through to too
        under up us ve very was way we were what when where which while who why will with won would yes yet
        you your yours
        aber alle als am an auch auf aus bei bin bis bist da damit dann das dass dein deine dem den der des
        dich die dies diese dieser dieses dir doch du durch ein eine einem einen einer er es etwas euch fur
        ganz habe haben hast hat hatte ich ihnen ihr ihre ihren im immer in ist ja jede jeder jetzt kann
        kein mal man mehr mein meine mich mir mit nach nicht noch nun nur oder ohne sehr sein sich sie sind
        so uber um und uns unser unsere vom von vor war waren was wenn wer werde werden wie wieder wir wird
        wo zu zum zur
        ai alors ami apres au aussi autant aux avant avec avez avons bien car ce cela ces cet cette chaque
        comme dans de des donc du elle elles en encore est et etait ete etre eu fait fut il ils je jusqu la
        le les leur lui ma mais me meme mes moi mon ne nos notre nous on ont ou par pas pendant plus pour qu
        quand que qui sa sans se ses si son sont sous suis sur ta tant te tes toi ton toujours tous tout
        toute toutes tres tu un une vos votre vous
        ahora al algo aqui asi cada como con cual cuando de del desde donde el ella ellos en entre era eres
        es esa ese eso esta estas este esto estoy fue ha han has hasta hay he la las le les lo los mas me mi
        mis mucho muy nada ni no nos nuestra nuestro nunca o os otra otro para pero por porque que quien se
        sea ser si siempre sin sobre son soy su sus tambien tan te ti tiene todo todos tu tus un una uno
        usted ustedes y ya yo
        ainda ao aos ate com da das de dela dele do dos e ela ele eles em entao era essa esse esta estou eu
        foi isso isto ja lhe mais mas me mesmo meu meus minha muito na nao nas nem no nos nossa nosso num
        numa o os ou outra outro para pela pelo por quando que quem se sem sempre ser seu seus so sou sua
        suas tambem tao te tem tenho ter teu teus toda todo tu tua um uma voce voces
        agli ai al alla alle anche ancora che chi ci come con cosi cui da dal dalla dei del della delle di
        dopo e ed era essere fra gli ha hai hanno ho i il in io la le lei li lo loro lui ma me mi mia mie
        miei mio molto ne nei nel nella no noi non nostra nostro o ogni per piu poi quando quella quello
        questa questo qui se sei sempre senza si sia sono stata stato su sua sue sul sulla suo te ti tra tu
        tua tuo tutti tutto un una uno vi voi
        aan al alle als altijd ben bent bij daar dan dat de deze die dit doe door een en er ga gaan geen had
        heb hebben heeft hem het hier hij hoe hun ik in is ja je jij jou jouw kan kun maar me meer met mij
        mijn moet na naar niet nog nu of om onder ons onze ook op over te tot u uit uw van veel voor waar
        was wat we weer werd wij wil worden zal ze zeer zich zij zijn zo zonder zou
        а без более был была были было быть в вам вас ваш ваша ваше ваши весь во вот все всегда всего всем всю вы
        где да даже для до его ее еще же за и из или им их к как когда которая которые который кто ли лишь мне много
        мной мои мой моя мы на над нам нас наш наша наше не нет но ну о об очень он она они от по под при про раз с
        сам сама самый свой себе себя со так также такой там твой твоя те тебе тебя теперь то тобой тоже только тот
        ты у уже чего чем что чтобы эта эти это этот этой эту я
        a aby ale bardzo bez bo był była było być by ci ciebie co czy dla do gdy gdzie go i ich ile im ja jak jako
        je jego jej jest jestem jeszcze jesteś już ją każdy kiedy kto która które który lecz ma mam mi mnie moja
        moje mój my na nad nam nami nas nasz nasza nasze nie nim o od on ona oni oraz po pod przy przez są się
        siebie sobie swoje swój ta tak taki tam te tego tej ten to tobie tobą twoja twoje twój tu tutaj ty tylko też
        tym tę u w wam was wasz we więc wszystko z za ze że żeby
        我 你 他 她 它 们 們 的 了 是 在 也 都 不 这 這 那 就 和 与 把 被 得 地 着 著 吗 嗎 呢 吧 啊 呀 哦 个 個 一
        又 还 還 会 要 能 可 以 到 从 從 对 對 多 更 最 很 上 下 中 里 裡 为 為 所 而 之 其 此 各
        ぁ あ ぃ い ぅ う ぇ え ぉ お か き く け こ さ し す せ そ た ち っ つ て と な に ぬ ね の は ひ ふ へ ほ
        ま み む め も ゃ や ゅ ゆ ょ よ ら り る れ ろ わ を ん が ば ぱ 々 ー
        """
    )
)
"""The small words of the same languages, which say nothing by themselves."""

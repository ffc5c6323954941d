"""Programs that check what they got and try again."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import random
import re
from dataclasses import dataclass
from typing import Any, Optional

import dspy
from pydantic import BaseModel, Field, ValidationError, field_validator

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger(__name__)


class Invoice(BaseModel):
    number: str
    total: float = Field(ge=0)
    currency: str = "EUR"

    @field_validator("currency")
    @classmethod
    def known_currency(cls, value: str) -> str:
        if value not in {"EUR", "SEK", "GBP"}:
            raise ValueError(f"unknown currency {value!r}")
        return value


class InvoiceReader(dspy.Module):
    """Up to three attempts for each document; what was wrong is told to the next one."""

    def __init__(self, max_retries: int = 3):
        super().__init__()
        self.max_retries = max_retries
        self.read = dspy.ChainOfThought("document, feedback -> invoice_json, confidence: float")
        self.report = dspy.Predict("invoices: list[str], failures: list[str] -> report")

    def read_one(self, document: str) -> Optional[Invoice]:
        feedback = ""
        for attempt in range(1, self.max_retries + 1):
            try:
                result = self.read(document=document, feedback=feedback)
                data = json.loads(result.invoice_json)
                if result.confidence < 0.4:
                    raise ValueError(f"confidence of {result.confidence:.2f} is too low")
                return Invoice(**data)
            except (json.JSONDecodeError, ValidationError, ValueError) as e:
                logger.warning(f"Attempt {attempt} failed: {e}")
                feedback = f"Attempt {attempt}: {e}"
        return None

    def forward(self, documents: list[str]):
        invoices, failures = [], []
        for document in documents:
            invoice = self.read_one(document)
            if invoice is None:
                failures.append(document)
                continue
            invoices.append(invoice)
        lines = [f"{i.number}: {i.total:.2f} {i.currency}" for i in invoices]
        report = self.report(invoices=lines, failures=failures).report
        return dspy.Prediction(invoices=invoices, failures=failures, report=report)


class InvoiceReaderByHand(InvoiceReader):
    async def aread_one(self, document: str) -> Optional[Invoice]:
        feedback = ""
        for attempt in range(1, self.max_retries + 1):
            try:
                result = await self.read.acall(document=document, feedback=feedback)
                data = json.loads(result.invoice_json)
                if result.confidence < 0.4:
                    raise ValueError(f"confidence of {result.confidence:.2f} is too low")
                return Invoice(**data)
            except (json.JSONDecodeError, ValidationError, ValueError) as e:
                feedback = f"Attempt {attempt}: {e}"
        return None

    async def aforward(self, documents: list[str]):
        found = await asyncio.gather(*map(self.aread_one, documents))
        invoices = [each for each in found if each is not None]
        failures = [document for document, each in zip(documents, found) if each is None]
        lines = [f"{i.number}: {i.total:.2f} {i.currency}" for i in invoices]
        report = (await self.report.acall(invoices=lines, failures=failures)).report
        return dspy.Prediction(invoices=invoices, failures=failures, report=report)


def short_enough(args: Any, pred: Any) -> float:
    """One if the headline fits, and does not end in a number."""
    return 1.0 if len(pred.headline) < 40 and not pred.headline[-1].isdigit() else 0.0


class Headlines(dspy.Module):
    """`dspy.BestOfN` made for each story, then one call for them all."""

    def __init__(self):
        super().__init__()
        self.headline = dspy.Predict("story -> headline")
        self.front_page = dspy.ChainOfThought("headlines: list[str] -> lead")

    def forward(self, stories: list[str]):
        headlines = []
        for story in stories:
            best = dspy.BestOfN(module=self.headline, N=3, reward_fn=short_enough, threshold=1.0)
            headlines.append(best(story=story).headline.strip())
        lead = self.front_page(headlines=headlines).lead
        return dspy.Prediction(headlines=headlines, lead=lead)


class HeadlinesByHand(Headlines):
    async def aforward(self, stories: list[str]):
        async def best_of_n(story):
            # What BestOfN does, which has no aforward(): one rollout after the other, until one is good enough.
            lm, first = dspy.settings.lm, None
            for rollout in range(3):
                module = self.headline.deepcopy()
                module.set_lm(lm.copy(rollout_id=rollout, temperature=1.0))
                pred = await module.acall(story=story)
                first = first or pred
                if short_enough({}, pred) >= 1.0:
                    return pred
            return first

        found = await asyncio.gather(*map(best_of_n, stories))
        headlines = [each.headline.strip() for each in found]
        lead = (await self.front_page.acall(headlines=headlines)).lead
        return dspy.Prediction(headlines=headlines, lead=lead)


def has_hashtag(text: str) -> bool:
    return bool(re.search(r"#\w+", text))


class TweetWriter(dspy.Module):
    """A draft for each angle; those that break a rule are written again."""

    def __init__(self, max_length: int = 280):
        super().__init__()
        self.max_length = max_length
        self.draft = dspy.ChainOfThought("topic, angle -> tweet, catchy: float")
        self.revise = dspy.Predict("draft, problems: list[str] -> tweet")
        self.pick = dspy.Predict("tweets: list[str] -> best: int")

    def problems(self, pred) -> list[str]:
        found = []
        if len(pred.tweet) > self.max_length:
            found.append(f"{len(pred.tweet)} characters, {self.max_length} are allowed")
        if not has_hashtag(pred.tweet):
            found.append("no hashtag")
        if pred.catchy < 0.5:
            found.append("not catchy")
        return found

    def forward(self, topic: str, angles: list[str]):
        tweets = []
        for angle in angles:
            pred = self.draft(topic=topic, angle=angle)
            problems = self.problems(pred)
            if len(problems) > 1:
                pred.tweet = self.revise(draft=pred.tweet, problems=problems).tweet
            if not has_hashtag(pred.tweet):
                pred.tweet = f"{pred.tweet} #{topic.replace(' ', '')}"
            tweets.append(pred.tweet)
        best = self.pick(tweets=tweets).best
        return dspy.Prediction(tweets=tweets, best=tweets[best % len(tweets)])


class TweetWriterByHand(TweetWriter):
    async def aforward(self, topic: str, angles: list[str]):
        async def write(angle):
            pred = await self.draft.acall(topic=topic, angle=angle)
            problems = self.problems(pred)
            if len(problems) > 1:
                pred.tweet = (await self.revise.acall(draft=pred.tweet, problems=problems)).tweet
            return pred.tweet if has_hashtag(pred.tweet) else f"{pred.tweet} #{topic.replace(' ', '')}"

        tweets = await asyncio.gather(*map(write, angles))
        best = (await self.pick.acall(tweets=tweets)).best
        return dspy.Prediction(tweets=tweets, best=tweets[best % len(tweets)])


def retry(times: int = 3, exceptions: tuple = (ValueError,)):
    """Call again if it raises."""

    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            last = None
            for attempt in range(times):
                try:
                    return fn(*args, attempt=attempt, **kwargs)
                except exceptions as e:
                    last = e
                    logger.info("%s: attempt %d: %s", fn.__name__, attempt + 1, e)
            raise last

        return wrapper

    return decorate


class AddressParser(dspy.Module):
    """Methods with a retry decorator; an address that never validates is left out."""

    ZIP = re.compile(r"[0-9a-f]{4}")

    def __init__(self):
        super().__init__()
        self.parse = dspy.Predict("address, attempt: int -> street, city, postcode, sure: float")
        self.country = dspy.Predict("address -> country")

    @retry(times=2)
    def parse_checked(self, address: str, attempt: int = 0) -> dict[str, str]:
        parsed = self.parse(address=address, attempt=attempt)
        if parsed.sure < 0.5 or not self.ZIP.search(parsed.postcode):
            raise ValueError(f"no good postcode in {parsed.postcode!r}")
        return {"street": parsed.street, "city": parsed.city, "postcode": parsed.postcode}

    def forward(self, addresses: list[str]):
        parsed = []
        for address in addresses:
            try:
                entry = self.parse_checked(address)
            except ValueError:
                continue
            entry["country"] = self.country(address=address).country
            parsed.append(entry)
        return dspy.Prediction(parsed=parsed, skipped=len(addresses) - len(parsed))


class AddressParserByHand(AddressParser):
    async def aforward(self, addresses: list[str]):
        async def entry(address):
            for attempt in range(2):
                parsed = await self.parse.acall(address=address, attempt=attempt)
                if parsed.sure >= 0.5 and self.ZIP.search(parsed.postcode):
                    country = (await self.country.acall(address=address)).country
                    return {
                        "street": parsed.street,
                        "city": parsed.city,
                        "postcode": parsed.postcode,
                        "country": country,
                    }
            return None

        found = [each for each in await asyncio.gather(*map(entry, addresses)) if each is not None]
        return dspy.Prediction(parsed=found, skipped=len(addresses) - len(found))


@dataclass
class Attempt:
    text: str
    score: float
    round: int


class Translator(dspy.Module):
    """Improves a translation until a judge is content, for several languages; rounds are limited by the environment."""

    def __init__(self):
        super().__init__()
        self.translate = dspy.Predict("text, language -> translation")
        self.judge = dspy.ChainOfThought("text, translation -> score: float, critique")
        self.improve = dspy.Predict("text, draft, critique -> translation")

    def forward(self, text: str, languages: list[str]):
        limit = int(os.getenv("TRANSLATION_ROUNDS", "3"))
        rng = random.Random(7)
        translations: dict[str, Attempt] = {}
        for language in languages:
            current = self.translate(text=text, language=language).translation
            best, rounds = None, 0
            while True:
                judged = self.judge(text=text, translation=current)
                rounds += 1
                if best is None or judged.score > best.score:
                    best = Attempt(current, judged.score, rounds)
                if judged.score >= 0.6 or rounds >= limit:
                    break
                current = self.improve(text=text, draft=current, critique=judged.critique).translation
            quality, attempts = best.score, rounds
            logger.info("%s: %.2f after %d rounds", language, quality, attempts)
            translations[language] = best
        sample = rng.choice(languages)
        return dspy.Prediction(translations=translations, sample=translations[sample].text)


class TranslatorByHand(Translator):
    async def aforward(self, text: str, languages: list[str]):
        limit = int(os.getenv("TRANSLATION_ROUNDS", "3"))

        async def best_of(language):
            current = (await self.translate.acall(text=text, language=language)).translation
            best, rounds = None, 0
            while True:
                judged = await self.judge.acall(text=text, translation=current)
                rounds += 1
                if best is None or judged.score > best.score:
                    best = Attempt(current, judged.score, rounds)
                if judged.score >= 0.6 or rounds >= limit:
                    return best
                improved = await self.improve.acall(text=text, draft=current, critique=judged.critique)
                current = improved.translation

        translations = dict(zip(languages, await asyncio.gather(*map(best_of, languages))))
        return dspy.Prediction(translations=translations, sample=translations[random.Random(7).choice(languages)].text)


class RobustTagger(dspy.Module):
    """A call that fails is logged with its traceback, and a fallback's answer is taken."""

    def __init__(self):
        super().__init__()
        self.tag = dspy.ChainOfThought("text -> tags: list[str]")
        self.fallback = dspy.Predict("title -> tags: list[str]")
        self.cluster = dspy.Predict("tags: list[str] -> clusters: dict[str, list[str]]")
        self.errors: list[str] = []

    def forward(self, articles: dict[str, str]):
        tags: dict[str, list[str]] = {}
        for title, text in articles.items():
            try:
                tags[title] = self.tag(text=text).tags
            except Exception as e:
                logger.error(f"Tagging {title} failed: {type(e).__name__}")
                self.errors.append(title)
                tags[title] = self.fallback(title=title).tags
            else:
                logger.debug("%s: %d tags", title, len(tags[title]))
        every = sorted({tag for found in tags.values() for tag in found})
        clusters = self.cluster(tags=every).clusters
        return dspy.Prediction(tags=tags, clusters=clusters, errors=list(self.errors))


class RobustTaggerByHand(RobustTagger):
    async def aforward(self, articles: dict[str, str]):
        async def tagged(title, text):
            try:
                return (await self.tag.acall(text=text)).tags
            except Exception:
                self.errors.append(title)
                return (await self.fallback.acall(title=title)).tags

        found = await asyncio.gather(*(tagged(*each) for each in articles.items()))
        tags = dict(zip(articles, found))
        every = sorted({tag for each in found for tag in each})
        clusters = (await self.cluster.acall(tags=every)).clusters
        return dspy.Prediction(tags=tags, clusters=clusters, errors=[t for t in articles if t in self.errors])


ARTICLES = {f"Article {n}": f"Text {n} about the moon." for n in range(4)}
ARTICLES["Article 2"] = "raise LMFailure"

PROGRAMS = [
    Program(
        "invoices, retried",
        "raise in a try in a loop, json.loads, Pydantic",
        InvoiceReader,
        InvoiceReaderByHand,
        {"documents": [f"Invoice {n} of {n * 12} EUR" for n in range(5)]},
        8,
        4,
        {"invoice_json": '{"number": "A1", "total": 12.5}'},
    ),
    Program(
        "headlines",
        "dspy.BestOfN made in forward()",
        Headlines,
        HeadlinesByHand,
        {"stories": [f"Story {n}: a ship came in." for n in range(3)]},
        8,
        4,
    ),
    Program(
        "tweets",
        "an attribute of a prediction set in a branch",
        TweetWriter,
        TweetWriterByHand,
        {"topic": "tide clocks", "angles": ["funny", "serious", "short", "proud"]},
        6,
        3,
    ),
    Program(
        "addresses",
        "a retry decorator, pattern.search, continue",
        AddressParser,
        AddressParserByHand,
        {"addresses": [f"{n} High Street, Hull" for n in range(5)]},
        11,
        3,
    ),
    Program(
        "translations",
        "while True, os.getenv, random.Random",
        Translator,
        TranslatorByHand,
        {"text": "The tide is out.", "languages": ["German", "Swedish", "French"]},
        14,
        6,
    ),
    Program(
        "tags with a fallback",
        "except Exception around a call that fails, else",
        RobustTagger,
        RobustTaggerByHand,
        {"articles": ARTICLES},
        6,
        3,
    ),
]

"""Programs that write: Storm and its like."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any, List, Optional, Union

import dspy
from pydantic import BaseModel

from benchmarks.overlap_programs.everyday.answers import SearchClient
from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger(__name__)


MARKERS = re.compile(r"\[\d+\]")


@dataclass
class DialogueTurn:
    question: str
    answer: str
    snippets: List[str] = field(default_factory=list)


class AskQuestion(dspy.Signature):
    """You are a writer with a focus. Ask an expert one question. Say "Thank you" when you have no more."""

    topic = dspy.InputField(prefix="Topic you want to write: ", format=str)
    persona = dspy.InputField(prefix="Your specific focus: ", format=str)
    conv = dspy.InputField(prefix="Conversation history:\n", format=str)
    question = dspy.OutputField()


class ConvSimulator(dspy.Module):
    """A writer with a persona asks, an expert searches and answers."""

    def __init__(self, engine, retriever, max_turn: int = 2, k: int = 2):
        super().__init__()
        self.engine = engine
        self.retriever = retriever
        self.max_turn = max_turn
        self.k = k
        self.ask = dspy.Predict(AskQuestion)
        self.answer = dspy.Predict("topic, question, info -> answer")

    def forward(self, topic: str, persona: str):
        dlg_history: List[DialogueTurn] = []
        for _ in range(self.max_turn):
            conv = []
            for turn in dlg_history[:-4]:
                conv.append(f"You: {turn.question}\nExpert: Omit the answer here due to space limit.")
            for turn in dlg_history[-4:]:
                conv.append(f"You: {turn.question}\nExpert: {MARKERS.sub('', turn.answer)}")
            conv = "\n".join(conv)
            with dspy.settings.context(lm=self.engine or dspy.settings.lm, show_guidelines=False):
                question = self.ask(topic=topic, persona=persona, conv=conv.strip() or "N/A").question
            if question == "":
                logging.error("Simulated Wikipedia writer utterance is empty.")
                break
            if question.startswith("Thank you so much for your help!"):
                break
            snippets = [hit["text"] for hit in self.retriever.search(question, k=self.k)]
            info = "\n".join(f"[{n + 1}]: {snippet}" for n, snippet in enumerate(snippets))
            answer = self.answer(topic=topic, question=question, info=info[:1000]).answer
            dlg_history.append(DialogueTurn(question=question, answer=answer, snippets=snippets))
        return dspy.Prediction(dlg_history=dlg_history)


class Storm(dspy.Module):
    """Personas, a conversation with each, an outline of them all, sections, and a lead."""

    def __init__(self, engine=None, max_perspective: int = 2):
        super().__init__()
        self.engine = engine
        self.max_perspective = max_perspective
        self.find_personas = dspy.ChainOfThought("topic -> personas: list[str]")
        self.simulator = ConvSimulator(engine, SearchClient())
        self.draft_outline = dspy.Predict("topic -> outline")
        self.refine_outline = dspy.Predict("topic, conversations, old_outline -> headings: list[str]")
        self.write_section = dspy.Predict("topic, heading, info -> text")
        self.write_lead = dspy.Predict("topic, draft -> lead")

    def forward(self, topic: str):
        personas = ["Basic fact writer: covers the basics"]
        personas += self.find_personas(topic=topic).personas[: self.max_perspective]
        conversations = []
        for persona in personas:
            conv = self.simulator(topic=topic, persona=persona)
            conversations.append((persona, conv.dlg_history))
        with dspy.settings.context(lm=self.engine or dspy.settings.lm):
            old_outline = self.draft_outline(topic=topic).outline
            talk = "\n".join(f"{t.question}\n{t.answer}" for _, history in conversations for t in history)
            headings = self.refine_outline(topic=topic, conversations=talk[:5000], old_outline=old_outline).headings
        references = {}
        for _, history in conversations:
            for turn in history:
                for snippet in turn.snippets:
                    references.setdefault(snippet, len(references) + 1)
        info = "\n".join(f"[{n}] {snippet}" for snippet, n in references.items())
        sections = []
        for heading in headings:
            if heading.lower() in ("introduction", "conclusion", "references"):
                continue
            text = self.write_section(topic=topic, heading=heading, info=info[:3000]).text
            sections.append(f"# {heading}\n{text.strip()}")
        draft = "\n\n".join(sections)
        lead = self.write_lead(topic=topic, draft=draft).lead
        return dspy.Prediction(article=f"{lead}\n\n{draft}", references=references)


class StormByHand(Storm):
    async def converse(self, topic, persona):
        simulator, history = self.simulator, []
        for _ in range(simulator.max_turn):
            conv = "\n".join(f"You: {t.question}\nExpert: {MARKERS.sub('', t.answer)}" for t in history)
            question = (await simulator.ask.acall(topic=topic, persona=persona, conv=conv.strip() or "N/A")).question
            hits = await asyncio.to_thread(simulator.retriever.search, question, k=simulator.k)
            snippets = [hit["text"] for hit in hits]
            info = "\n".join(f"[{n + 1}]: {snippet}" for n, snippet in enumerate(snippets))
            answer = (await simulator.answer.acall(topic=topic, question=question, info=info[:1000])).answer
            history.append(DialogueTurn(question, answer, snippets))
        return history

    async def aforward(self, topic: str):
        outline = asyncio.ensure_future(self.draft_outline.acall(topic=topic))
        first = asyncio.ensure_future(self.converse(topic, "Basic fact writer: covers the basics"))
        personas = (await self.find_personas.acall(topic=topic)).personas[: self.max_perspective]
        histories = await asyncio.gather(first, *(self.converse(topic, persona) for persona in personas))
        talk = "\n".join(f"{t.question}\n{t.answer}" for history in histories for t in history)
        refined = await self.refine_outline.acall(
            topic=topic, conversations=talk[:5000], old_outline=(await outline).outline
        )
        references: dict[str, int] = {}
        for snippet in (snippet for history in histories for turn in history for snippet in turn.snippets):
            references.setdefault(snippet, len(references) + 1)
        info = "\n".join(f"[{n}] {snippet}" for snippet, n in references.items())
        headings = [h for h in refined.headings if h.lower() not in ("introduction", "conclusion", "references")]
        written = await asyncio.gather(
            *(self.write_section.acall(topic=topic, heading=h, info=info[:3000]) for h in headings)
        )
        draft = "\n\n".join(f"# {h}\n{each.text.strip()}" for h, each in zip(headings, written))
        lead = (await self.write_lead.acall(topic=topic, draft=draft)).lead
        return dspy.Prediction(article=f"{lead}\n\n{draft}", references=references)


class SectionWriter(dspy.Module):
    """Each section is written, cleaned up in place and, if it is dull, revised; DSPy's tutorial grown up."""

    def __init__(self, outline=None, tone: str = "friendly"):
        super().__init__()
        self.tone = tone
        self.outline = dspy.ChainOfThought("topic -> title, sections: list[str]")
        self.draft = dspy.ChainOfThought("topic, section_heading -> content, dull: bool")
        self.revise = dspy.Predict("text, tone -> content")
        self.tagline = dspy.Predict("title -> tagline")

    def forward(self, topic):
        outline = self.outline(topic=topic)
        outline.title = outline.title.strip().title()
        sections = []
        for heading in outline.sections:
            section = self.draft(topic=topic, section_heading=f"## {heading}")
            section.content = re.sub(r"\s+", " ", section.content).strip()
            section.heading = heading
            if section.dull:
                section.content = self.revise(text=section.content, tone=self.tone).content
            section.words = len(section.content.split())
            sections.append(section)
        tagline = self.tagline(title=outline.title).tagline
        return dspy.Prediction(
            title=outline.title,
            tagline=tagline,
            sections=[{"heading": s.heading, "text": s.content, "words": s.words} for s in sections],
        )


class SectionWriterByHand(SectionWriter):
    async def aforward(self, topic):
        outline = await self.outline.acall(topic=topic)
        title = outline.title.strip().title()

        async def write(heading):
            section = await self.draft.acall(topic=topic, section_heading=f"## {heading}")
            content = re.sub(r"\s+", " ", section.content).strip()
            if section.dull:
                content = (await self.revise.acall(text=content, tone=self.tone)).content
            return {"heading": heading, "text": content, "words": len(content.split())}

        tagline, *sections = await asyncio.gather(self.tagline.acall(title=title), *map(write, outline.sections))
        return dspy.Prediction(title=title, tagline=tagline.tagline, sections=sections)


@contextlib.contextmanager
def timed(name: str):
    """Log how long a block took."""
    start = time.perf_counter()
    try:
        yield
    finally:
        logger.debug("%s took %.1fs", name, time.perf_counter() - start)


class Newsletter(dspy.Module):
    """Stages in blocks that are timed; stories that are alike are left out by a hash."""

    def __init__(self, max_stories: int = 4):
        super().__init__()
        self.max_stories = max_stories
        self.summarize = dspy.ChainOfThought("story -> summary, headline")
        self.rank = dspy.Predict("headline, audience -> interest: float")
        self.intro = dspy.Predict("headlines: list[str] -> intro")
        self.subject = dspy.Predict("headlines: list[str] -> subject")
        self.seen: set[str] = set()

    def forward(self, stories: list[str], audience: str = "engineers"):
        items = []
        with timed("summaries"):
            for story in stories:
                key = hashlib.md5(story.strip().lower().encode("utf-8")).hexdigest()
                if key in self.seen:
                    continue
                self.seen.add(key)
                summary = self.summarize(story=story)
                items.append({"id": key[:8], "headline": summary.headline, "summary": summary.summary})
        with timed("ranking"):
            for item in items:
                item["interest"] = self.rank(headline=item["headline"], audience=audience).interest
            items = sorted(items, key=lambda item: item["interest"], reverse=True)[: self.max_stories]
        headlines = [item["headline"] for item in items]
        with timed("texts"):
            intro = self.intro(headlines=headlines).intro
            subject = self.subject(headlines=headlines).subject
        return dspy.Prediction(subject=subject[:60], intro=intro, items=items)


class NewsletterByHand(Newsletter):
    async def aforward(self, stories: list[str], audience: str = "engineers"):
        async def item(key, story):
            summary = await self.summarize.acall(story=story)
            interest = (await self.rank.acall(headline=summary.headline, audience=audience)).interest
            return {"id": key[:8], "headline": summary.headline, "summary": summary.summary, "interest": interest}

        fresh = {}
        for story in stories:
            key = hashlib.md5(story.strip().lower().encode("utf-8")).hexdigest()
            if key not in self.seen:
                self.seen.add(key)
                fresh[key] = story
        items = await asyncio.gather(*(item(*each) for each in fresh.items()))
        items = sorted(items, key=lambda item: item["interest"], reverse=True)[: self.max_stories]
        headlines = [item["headline"] for item in items]
        intro, subject = await asyncio.gather(
            self.intro.acall(headlines=headlines), self.subject.acall(headlines=headlines)
        )
        return dspy.Prediction(subject=subject.subject[:60], intro=intro.intro, items=items)


class PostMeta(BaseModel):
    title: str
    slug: str = ""
    keywords: List[str] = []
    reading_minutes: int = 1

    def model_post_init(self, context: Any) -> None:
        if not self.slug:
            self.slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


class BlogPost(dspy.Module):
    """Title, body and metadata; steps are methods that read and write attributes of self."""

    def __init__(self):
        super().__init__()
        self.make_title = dspy.Predict("topic, audience -> title")
        self.make_keywords = dspy.Predict("topic -> keywords: list[str]")
        self.make_paragraph = dspy.ChainOfThought("title, keyword -> paragraph")
        self.make_teaser = dspy.Predict("title, keywords: list[str] -> teaser")
        self.meta: Optional[PostMeta] = None
        self.body: Union[str, List[str]] = ""

    def _prepare(self, topic: str, audience: str) -> None:
        title = self.make_title(topic=topic, audience=audience).title
        keywords = self.make_keywords(topic=topic).keywords
        self.meta = PostMeta(title=title, keywords=list(dict.fromkeys(k.lower() for k in keywords)))

    def _write(self) -> None:
        paragraphs = []
        for keyword in self.meta.keywords:
            paragraphs.append(self.make_paragraph(title=self.meta.title, keyword=keyword).paragraph)
        self.body = "\n\n".join(paragraphs)
        self.meta.reading_minutes = max(1, len(self.body.split()) // 200)

    def forward(self, topic: str, audience: str = "beginners"):
        self._prepare(topic, audience)
        self._write()
        teaser = self.make_teaser(title=self.meta.title, keywords=self.meta.keywords).teaser
        return dspy.Prediction(meta=self.meta.model_dump(), body=self.body, teaser=teaser)


class BlogPostByHand(BlogPost):
    async def aforward(self, topic: str, audience: str = "beginners"):
        title, found = await asyncio.gather(
            self.make_title.acall(topic=topic, audience=audience), self.make_keywords.acall(topic=topic)
        )
        keywords = list(dict.fromkeys(k.lower() for k in found.keywords))
        self.meta = PostMeta(title=title.title, keywords=keywords)
        teaser, *written = await asyncio.gather(
            self.make_teaser.acall(title=self.meta.title, keywords=keywords),
            *(self.make_paragraph.acall(title=self.meta.title, keyword=keyword) for keyword in keywords),
        )
        self.body = "\n\n".join(each.paragraph for each in written)
        self.meta.reading_minutes = max(1, len(self.body.split()) // 200)
        return dspy.Prediction(meta=self.meta.model_dump(), body=self.body, teaser=teaser.teaser)


class Deck:
    """Slides, in order."""

    def __init__(self, title: str):
        self.title = title
        self.slides: list[dict[str, Any]] = []

    def add(self, heading: str, bullets: list[str], notes: str = "") -> dict[str, Any]:
        slide = {"number": len(self.slides) + 1, "heading": heading, "bullets": bullets, "notes": notes}
        self.slides.append(slide)
        return slide

    def __len__(self) -> int:
        return len(self.slides)


class SlideMaker(dspy.Module):
    """A deck that grows; functions are imported where they are used."""

    def __init__(self):
        super().__init__()
        self.outline = dspy.ChainOfThought("topic, minutes: int -> headings: list[str]")
        self.bullets = dspy.Predict("topic, heading -> bullets: list[str]")
        self.notes = dspy.Predict("heading, bullets: list[str] -> notes")
        self.closing = dspy.Predict("topic -> closing")

    def forward(self, topic: str, minutes: int = 10):
        import textwrap
        from itertools import islice

        deck = Deck(topic.title())
        headings = self.outline(topic=topic, minutes=minutes).headings
        for heading in islice(headings, max(1, minutes // 2)):
            bullets = [textwrap.shorten(b, 60) for b in self.bullets(topic=topic, heading=heading).bullets]
            slide = deck.add(heading, bullets)
            slide["notes"] = self.notes(heading=heading, bullets=bullets).notes
        deck.add("Thank you", [self.closing(topic=topic).closing])
        logger.info("deck of %d slides", len(deck))
        return dspy.Prediction(title=deck.title, slides=deck.slides)


class SlideMakerByHand(SlideMaker):
    async def aforward(self, topic: str, minutes: int = 10):
        import textwrap

        closing = asyncio.ensure_future(self.closing.acall(topic=topic))
        headings = (await self.outline.acall(topic=topic, minutes=minutes)).headings[: max(1, minutes // 2)]

        async def slide(heading):
            found = (await self.bullets.acall(topic=topic, heading=heading)).bullets
            bullets = [textwrap.shorten(b, 60) for b in found]
            return heading, bullets, (await self.notes.acall(heading=heading, bullets=bullets)).notes

        deck = Deck(topic.title())
        for each in await asyncio.gather(*map(slide, headings)):
            deck.add(*each)
        deck.add("Thank you", [(await closing).closing])
        return dspy.Prediction(title=deck.title, slides=deck.slides)


STORIES = [f"Story {n}: the harbour of Hull got crane {n}." for n in (1, 2, 1, 3)]

PROGRAMS = [
    Program(
        "Storm with a retriever",
        "arXiv 2402.14207; dspy.settings.context, re.sub, dataclass",
        Storm,
        StormByHand,
        {"topic": "tide clocks"},
        18,
        8,
    ),
    Program(
        "sections in place",
        "DSPy's tutorial; attributes of predictions",
        SectionWriter,
        SectionWriterByHand,
        {"topic": "tide clocks"},
        4,
        2,
    ),
    Program(
        "newsletter",
        "a context manager of one's own, hashlib, set of what was seen",
        Newsletter,
        NewsletterByHand,
        {"stories": STORIES},
        8,
        3,
    ),
    Program(
        "blog post",
        "methods that write attributes, model_post_init",
        BlogPost,
        BlogPostByHand,
        {"topic": "tide clocks"},
        5,
        2,
    ),
    Program(
        "slides",
        "imports in forward(), a class that grows",
        SlideMaker,
        SlideMakerByHand,
        {"topic": "tide clocks"},
        6,
        3,
    ),
]

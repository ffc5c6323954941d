"""Programs that read long texts and programs that write them."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

REPORT = "\n\n".join(
    f"Chapter {n}. In year {n} the river rose by {n * 7} cm, and the town moved uphill." for n in range(8)
)


class MapReduce(dspy.Module):
    """Summarise each chunk, then the summaries."""

    def __init__(self) -> None:
        super().__init__()
        self.summarize = dspy.Predict("chunk -> summary")
        self.combine = dspy.ChainOfThought("summaries: list[str] -> summary")

    def forward(self, text: str) -> Any:
        chunks = [chunk.strip() for chunk in text.split("\n\n") if chunk.strip()]
        summaries = [self.summarize(chunk=chunk).summary for chunk in chunks]
        return self.combine(summaries=summaries)


class MapReduceByHand(MapReduce):
    async def aforward(self, text: str) -> Any:
        chunks = [chunk.strip() for chunk in text.split("\n\n") if chunk.strip()]
        found = await asyncio.gather(*(self.summarize.acall(chunk=chunk) for chunk in chunks))
        return await self.combine.acall(summaries=[each.summary for each in found])


class TreeSummary(dspy.Module):
    """Merge neighbours until one text is left."""

    def __init__(self) -> None:
        super().__init__()
        self.summarize = dspy.Predict("chunk -> summary")
        self.merge = dspy.Predict("first, second -> merged")

    def forward(self, text: str) -> Any:
        level = []
        for chunk in text.split("\n\n"):
            level.append(self.summarize(chunk=chunk).summary)
        rounds = 0
        while len(level) > 1:
            merged = []
            for i in range(0, len(level) - 1, 2):
                merged.append(self.merge(first=level[i], second=level[i + 1]).merged)
            if len(level) % 2:
                merged.append(level[-1])
            level = merged
            rounds += 1
        return dspy.Prediction(summary=level[0], rounds=rounds)


class TreeSummaryByHand(TreeSummary):
    async def aforward(self, text: str) -> Any:
        async def leaf(chunk: str) -> str:
            return (await self.summarize.acall(chunk=chunk)).summary

        async def inner(first: asyncio.Task[str], second: asyncio.Task[str]) -> str:
            return (await self.merge.acall(first=await first, second=await second)).merged

        level = [asyncio.create_task(leaf(chunk)) for chunk in text.split("\n\n")]
        rounds = 0
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [asyncio.create_task(inner(*pair)) for pair in pairs] + ([level[-1]] if len(level) % 2 else [])
            rounds += 1
        return dspy.Prediction(summary=await level[0], rounds=rounds)


class Refine(dspy.Module):
    """Carry one summary through all chunks: nothing to gain."""

    def __init__(self) -> None:
        super().__init__()
        self.refine = dspy.Predict("summary_so_far, chunk -> summary")

    def forward(self, text: str) -> Any:
        summary = "nothing yet"
        for chunk in text.split("\n\n")[:4]:
            summary = self.refine(summary_so_far=summary, chunk=chunk).summary
        return dspy.Prediction(summary=summary)


class RefineByHand(Refine):
    async def aforward(self, text: str) -> Any:
        summary = "nothing yet"
        for chunk in text.split("\n\n")[:4]:
            summary = (await self.refine.acall(summary_so_far=summary, chunk=chunk)).summary
        return dspy.Prediction(summary=summary)


class SkeletonOfThought(dspy.Module):
    """Points first, then each point in full."""

    def __init__(self) -> None:
        super().__init__()
        self.skeleton = dspy.Predict("question -> points: list[str]")
        self.expand = dspy.Predict("question, points: list[str], point -> paragraph")

    def forward(self, question: str) -> Any:
        points = self.skeleton(question=question).points
        paragraphs = []
        for number, point in enumerate(points, start=1):
            paragraph = self.expand(question=question, points=points, point=point).paragraph
            paragraphs.append(f"{number}. {paragraph.strip()}")
        return dspy.Prediction(answer="\n".join(paragraphs))


class SkeletonOfThoughtByHand(SkeletonOfThought):
    async def aforward(self, question: str) -> Any:
        points = (await self.skeleton.acall(question=question)).points
        found = await asyncio.gather(
            *(self.expand.acall(question=question, points=points, point=point) for point in points)
        )
        return dspy.Prediction(answer="\n".join(f"{n}. {each.paragraph.strip()}" for n, each in enumerate(found, 1)))


class Outline(dspy.Signature):
    """Outline a thorough overview of a topic."""

    topic: str = dspy.InputField()
    title: str = dspy.OutputField()
    sections: list[str] = dspy.OutputField()
    section_subheadings: dict[str, list[str]] = dspy.OutputField(desc="mapping from section headings to subheadings")


class DraftSection(dspy.Signature):
    """Draft a top-level section of an article."""

    topic: str = dspy.InputField()
    section_heading: str = dspy.InputField()
    section_subheadings: list[str] = dspy.InputField()
    content: str = dspy.OutputField(desc="markdown-formatted section")


class DraftArticle(dspy.Module):
    """From DSPy's front page."""

    def __init__(self) -> None:
        super().__init__()
        self.build_outline = dspy.ChainOfThought(Outline)
        self.draft_section = dspy.ChainOfThought(DraftSection)

    def forward(self, topic: str) -> Any:
        outline = self.build_outline(topic=topic)
        sections = []
        for heading, subheadings in outline.section_subheadings.items():
            section, subheadings = f"## {heading}", [f"### {subheading}" for subheading in subheadings]
            section = self.draft_section(topic=outline.title, section_heading=section, section_subheadings=subheadings)
            sections.append(section.content)
        return dspy.Prediction(title=outline.title, sections=sections)


class DraftArticleByHand(DraftArticle):
    async def aforward(self, topic: str) -> Any:
        outline = await self.build_outline.acall(topic=topic)
        found = await asyncio.gather(
            *(
                self.draft_section.acall(
                    topic=outline.title,
                    section_heading=f"## {heading}",
                    section_subheadings=[f"### {subheading}" for subheading in subheadings],
                )
                for heading, subheadings in outline.section_subheadings.items()
            )
        )
        return dspy.Prediction(title=outline.title, sections=[section.content for section in found])


class Conversation(dspy.Module):
    """A writer with one perspective asks an expert, turn by turn."""

    def __init__(self, turns: int = 2) -> None:
        super().__init__()
        self.turns = turns
        self.ask = dspy.Predict("topic, perspective, conversation: list[str] -> question")
        self.reply = dspy.Predict("topic, question -> answer")

    def forward(self, topic: str, perspective: str) -> Any:
        conversation: list[str] = []
        for _ in range(self.turns):
            question = self.ask(topic=topic, perspective=perspective, conversation=conversation).question
            answer = self.reply(topic=topic, question=question).answer
            conversation.append(f"Writer: {question}")
            conversation.append(f"Expert: {answer}")
        return dspy.Prediction(conversation=conversation)


class ConversationByHand(Conversation):
    async def aforward(self, topic: str, perspective: str) -> Any:
        conversation: list[str] = []
        for _ in range(self.turns):
            asked = await self.ask.acall(topic=topic, perspective=perspective, conversation=conversation)
            answer = (await self.reply.acall(topic=topic, question=asked.question)).answer
            conversation += [f"Writer: {asked.question}", f"Expert: {answer}"]
        return dspy.Prediction(conversation=conversation)


class Storm(dspy.Module):
    """Interviews from several perspectives, an outline from a draft and the interviews, sections, a lead."""

    conversation: type[Conversation] = Conversation

    def __init__(self) -> None:
        super().__init__()
        self.perspectives = dspy.Predict("topic -> perspectives: list[str]")
        self.converse = self.conversation()
        self.draft = dspy.Predict("topic -> draft_outline: list[str]")
        self.outline = dspy.Predict("topic, draft_outline: list[str], conversations: list[str] -> headings: list[str]")
        self.write = dspy.ChainOfThought("topic, heading, conversations: list[str] -> section")
        self.lead = dspy.Predict("topic, sections: list[str] -> lead_section")

    def forward(self, topic: str) -> Any:
        conversations = []
        for perspective in self.perspectives(topic=topic).perspectives:
            interview = self.converse(topic=topic, perspective=perspective)
            conversations.append("\n".join(interview.conversation))
        draft = self.draft(topic=topic).draft_outline
        headings = self.outline(topic=topic, draft_outline=draft, conversations=conversations).headings
        sections = [
            self.write(topic=topic, heading=heading, conversations=conversations).section for heading in headings
        ]
        lead = self.lead(topic=topic, sections=sections).lead_section
        return dspy.Prediction(article="\n\n".join([lead, *sections]), headings=headings)


class StormByHand(Storm):
    conversation = ConversationByHand

    async def aforward(self, topic: str) -> Any:
        async def interview(perspective: str) -> str:
            return "\n".join((await self.converse.acall(topic=topic, perspective=perspective)).conversation)

        drafting = asyncio.create_task(self.draft.acall(topic=topic))
        perspectives = (await self.perspectives.acall(topic=topic)).perspectives
        conversations = await asyncio.gather(*map(interview, perspectives))
        draft = (await drafting).draft_outline
        outline = await self.outline.acall(topic=topic, draft_outline=draft, conversations=conversations)
        written = await asyncio.gather(
            *(
                self.write.acall(topic=topic, heading=heading, conversations=conversations)
                for heading in outline.headings
            )
        )
        sections = [each.section for each in written]
        lead = (await self.lead.acall(topic=topic, sections=sections)).lead_section
        return dspy.Prediction(article="\n\n".join([lead, *sections]), headings=outline.headings)


class Translation(dspy.Module):
    """Translate, translate back, compare; once more if too much was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.translate = dspy.Predict("text, language, advice -> translation")
        self.back = dspy.Predict("translation, language -> original")
        self.compare = dspy.Predict("text, original -> similarity: float, advice")

    def forward(self, text: str, languages: list[str]) -> Any:
        return dspy.Prediction(translations={language: self.checked(text, language) for language in languages})

    def checked(self, text: str, language: str, threshold: float = 0.6) -> str:
        advice = "none"
        for _attempt in range(2):
            translation = self.translate(text=text, language=language, advice=advice).translation
            original = self.back(translation=translation, language=language).original
            verdict = self.compare(text=text, original=original)
            if verdict.similarity >= threshold:
                break
            advice = verdict.advice
        return str(translation)


class TranslationByHand(Translation):
    async def aforward(self, text: str, languages: list[str]) -> Any:
        found = await asyncio.gather(*(self.achecked(text, language) for language in languages))
        return dspy.Prediction(translations=dict(zip(languages, found, strict=True)))

    async def achecked(self, text: str, language: str, threshold: float = 0.6) -> str:
        advice = "none"
        for _attempt in range(2):
            translation = (await self.translate.acall(text=text, language=language, advice=advice)).translation
            original = (await self.back.acall(translation=translation, language=language)).original
            verdict = await self.compare.acall(text=text, original=original)
            if verdict.similarity >= threshold:
                break
            advice = verdict.advice
        return str(translation)


PROGRAMS = [
    Program("map-reduce summary", "LangChain, map-reduce", MapReduce, MapReduceByHand, {"text": REPORT}, 9, 2),
    Program("tree summary", "RAPTOR, arXiv 2401.18059", TreeSummary, TreeSummaryByHand, {"text": REPORT}, 15, 4),
    Program("rolling summary", "LangChain, refine", Refine, RefineByHand, {"text": REPORT}, 4, 4),
    Program(
        "skeleton of thought",
        "arXiv 2307.15337",
        SkeletonOfThought,
        SkeletonOfThoughtByHand,
        {"question": "How do rivers shape towns?"},
        6,
        2,
        {"points": ["water", "trade", "floods", "bridges", "mills"]},
    ),
    Program(
        "draft article",
        "DSPy's front page",
        DraftArticle,
        DraftArticleByHand,
        {"topic": "The history of bridges"},
        5,
        2,
        {
            "section_subheadings": {
                "Wood": ["Beams", "Piles"],
                "Stone": ["Arches"],
                "Iron": ["Chains", "Trusses"],
                "Steel": [],
            }
        },
    ),
    Program(
        "Storm",
        "arXiv 2402.14207",
        Storm,
        StormByHand,
        {"topic": "Floods"},
        1 + 3 * 4 + 2 + 4 + 1,
        1 + 4 + 1 + 1 + 1,
        {"perspectives": ["engineer", "historian", "mayor"], "headings": ["Causes", "History", "Defences", "Future"]},
    ),
    Program(
        "translation, checked",
        "back-translation",
        Translation,
        TranslationByHand,
        {"text": "The town moved uphill.", "languages": ["German", "French", "Polish", "Greek", "Welsh"]},
        21,
        6,
    ),
]

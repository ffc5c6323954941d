"""Programs that look things up before they answer: over HTTP, in a file, in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, List, Optional

import dspy
import requests

from benchmarks.overlap_programs.program import Program
from dspy_parallel import pure

__all__ = ["PROGRAMS"]

log = logging.getLogger("rag")


def deduplicate(seq: list[str]) -> list[str]:
    """Keep the first of each."""
    seen = set()
    return [x for x in seq if not (x in seen or seen.add(x))]


class MultiQueryRAG(dspy.Module):
    """Several queries for one question, `dspy.Retrieve` for each, one answer."""

    def __init__(self, num_passages=3, num_queries=3):
        super().__init__()
        self.num_queries = num_queries
        self.retrieve = dspy.Retrieve(k=num_passages)
        self.generate_queries = dspy.ChainOfThought("question -> queries: list[str]")
        self.summarize = dspy.Predict("question, passages: list[str] -> notes")
        self.generate_answer = dspy.ChainOfThought("notes: list[str], question -> answer")

    def forward(self, question):
        queries = [question, *self.generate_queries(question=question).queries][: self.num_queries]
        notes, context = [], []
        for query in queries:
            passages = self.retrieve(query).passages
            context = deduplicate(context + passages)
            notes.append(self.summarize(question=question, passages=passages).notes)
        prediction = self.generate_answer(notes=notes, question=question)
        return dspy.Prediction(context=context, answer=prediction.answer)


class MultiQueryRAGByHand(MultiQueryRAG):
    async def aforward(self, question):
        async def look(query):
            passages = (await asyncio.to_thread(self.retrieve, query)).passages
            return passages, (await self.summarize.acall(question=question, passages=passages)).notes

        first = asyncio.ensure_future(look(question))  # needs no query of the LM's
        queries = (await self.generate_queries.acall(question=question)).queries[: self.num_queries - 1]
        found = [await first, *await asyncio.gather(*map(look, queries))]
        context = deduplicate([passage for passages, _ in found for passage in passages])
        prediction = await self.generate_answer.acall(notes=[each for _, each in found], question=question)
        return dspy.Prediction(context=context, answer=prediction.answer)


class SimplifiedBaleen(dspy.Module):
    """A hop needs the one before it: nothing here can be won."""

    def __init__(self, passages_per_hop=3, max_hops=2):
        super().__init__()
        self.generate_query = [dspy.ChainOfThought("context: list[str], question -> query") for _ in range(max_hops)]
        self.retrieve = dspy.Retrieve(k=passages_per_hop)
        self.generate_answer = dspy.ChainOfThought("context: list[str], question -> answer")
        self.max_hops = max_hops

    def forward(self, question):
        context = []
        for hop in range(self.max_hops):
            query = self.generate_query[hop](context=context, question=question).query
            passages = self.retrieve(query).passages
            context = deduplicate(context + passages)
        pred = self.generate_answer(context=context, question=question)
        return dspy.Prediction(context=context, answer=pred.answer)


class SimplifiedBaleenByHand(SimplifiedBaleen):
    async def aforward(self, question):
        context = []
        for hop in range(self.max_hops):
            query = (await self.generate_query[hop].acall(context=context, question=question)).query
            context = deduplicate(context + (await asyncio.to_thread(self.retrieve, query)).passages)
        pred = await self.generate_answer.acall(context=context, question=question)
        return dspy.Prediction(context=context, answer=pred.answer)


class SearchClient:
    """A thin client of a search service."""

    def __init__(self, base_url: Optional[str] = None, timeout: float = 10.0):
        self.base_url = base_url or os.getenv("SEARCH_URL", "http://localhost:8893/search")
        self.timeout = timeout
        self.session = requests.Session()

    def search(self, query: str, k: int = 3) -> List[dict]:
        """The k best pages."""
        response = self.session.get(self.base_url, params={"query": query, "k": k}, timeout=self.timeout)
        response.raise_for_status()
        return response.json()["topk"]


# What its user adds to overlap the programs below.
SearchClient.search = pure(SearchClient.search)  # type: ignore[method-assign]

CITATION = re.compile(r"\[(\d+)\]")


class RerankedRAG(dspy.Module):
    """Rewrites the question, searches, has each passage rated, answers from the best with citations."""

    def __init__(self, client=None, k=3, keep=3):
        super().__init__()
        self.client = client or SearchClient()
        self.k = k
        self.keep = keep
        self.rewrite = dspy.Predict("question, style -> query")
        self.rate = dspy.ChainOfThought("question, passage -> relevance: float")
        self.answer = dspy.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str):
        candidates = {}
        for style in ("keywords", "natural language", "hypothetical answer"):
            query = self.rewrite(question=question, style=style).query
            log.debug("query (%s): %s", style, query)
            for hit in self.client.search(query, k=self.k):
                if hit["pid"] not in candidates:
                    candidates[hit["pid"]] = hit
        scored = []
        for pid, hit in candidates.items():
            relevance = self.rate(question=question, passage=hit["text"]).relevance
            scored.append((relevance, pid, hit["text"]))
        scored.sort(reverse=True)
        context = [f"[{i}] {text}" for i, (_, _, text) in enumerate(scored[: self.keep], start=1)]
        prediction = self.answer(context=context, question=question)
        prediction.answer = prediction.answer.strip()
        prediction.citations = sorted({int(n) for n in CITATION.findall(prediction.answer)})
        prediction.sources = [text.split(" | ")[0] for text in context]
        return prediction


class RerankedRAGByHand(RerankedRAG):
    async def aforward(self, question: str):
        async def look(style):
            query = (await self.rewrite.acall(question=question, style=style)).query
            return await asyncio.to_thread(self.client.search, query, k=self.k)

        styles = ("keywords", "natural language", "hypothetical answer")
        candidates = {}
        for hits in await asyncio.gather(*map(look, styles)):
            for hit in hits:
                candidates.setdefault(hit["pid"], hit)
        rated = await asyncio.gather(
            *(self.rate.acall(question=question, passage=hit["text"]) for hit in candidates.values())
        )
        scored = [(each.relevance, pid, hit["text"]) for each, (pid, hit) in zip(rated, candidates.items())]
        scored.sort(reverse=True)
        context = [f"[{i}] {text}" for i, (_, _, text) in enumerate(scored[: self.keep], start=1)]
        prediction = await self.answer.acall(context=context, question=question)
        prediction.answer = prediction.answer.strip()
        prediction.citations = sorted({int(n) for n in CITATION.findall(prediction.answer)})
        prediction.sources = [text.split(" | ")[0] for text in context]
        return prediction


class CorrectiveRAG(dspy.Module):
    """Grades what it found; if hardly anything is relevant, searches once more."""

    def __init__(self, minimum=2):
        super().__init__()
        self.minimum = minimum
        self.client = SearchClient()
        self.grade = dspy.Predict("question, document -> relevant: bool")
        self.rewrite = dspy.ChainOfThought("question, rejected: list[str] -> query")
        self.generate = dspy.ChainOfThought("context: list[str], question -> answer")
        self.is_grounded = dspy.Predict("context: list[str], answer -> grounded: bool")

    def forward(self, question):
        documents = [hit["text"] for hit in self.client.search(question, k=4)]
        relevant, rejected = [], []
        for document in documents:
            verdict = self.grade(question=question, document=document)
            (relevant if verdict.relevant else rejected).append(document)
        if len(relevant) < self.minimum:
            log.info("only %d relevant documents, searching again", len(relevant))
            query = self.rewrite(question=question, rejected=rejected).query
            extra = [hit["text"] for hit in self.client.search(query, k=2)]
            for document in extra:
                if self.grade(question=question, document=document).relevant:
                    relevant.append(document)
        context = relevant or documents[:1]
        prediction = self.generate(context=context, question=question)
        prediction.grounded = self.is_grounded(context=context, answer=prediction.answer).grounded
        prediction.context = context
        return prediction


class CorrectiveRAGByHand(CorrectiveRAG):
    async def aforward(self, question):
        async def graded(documents):
            verdicts = await asyncio.gather(*(self.grade.acall(question=question, document=d) for d in documents))
            return list(zip(documents, (verdict.relevant for verdict in verdicts)))

        documents = [hit["text"] for hit in await asyncio.to_thread(self.client.search, question, k=4)]
        found = await graded(documents)
        relevant = [d for d, is_relevant in found if is_relevant]
        if len(relevant) < self.minimum:
            rejected = [d for d, is_relevant in found if not is_relevant]
            query = (await self.rewrite.acall(question=question, rejected=rejected)).query
            extra = [hit["text"] for hit in await asyncio.to_thread(self.client.search, query, k=2)]
            relevant += [d for d, is_relevant in await graded(extra) if is_relevant]
        context = relevant or documents[:1]
        prediction = await self.generate.acall(context=context, question=question)
        prediction.grounded = (await self.is_grounded.acall(context=context, answer=prediction.answer)).grounded
        prediction.context = context
        return prediction


def web_search(query: str, k: int = 3) -> list[str]:
    """The web, without any client."""
    url = f"{os.environ['SEARCH_URL']}?{urllib.parse.urlencode({'query': query, 'k': k})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        return [page["text"] for page in json.load(response)["topk"]]


class FactCheckedAnswer(dspy.Module):
    """One search, then claims that are checked against each page."""

    def __init__(self):
        super().__init__()
        self.answer = dspy.ChainOfThought("pages: list[str], question -> answer")
        self.claims = dspy.Predict("answer -> claims: list[str]")
        self.support = dspy.Predict("claim, page -> supported: bool")
        self.suggest = dspy.Predict("question, pages: list[str] -> follow_ups: list[str]")

    def forward(self, question: str, k: int = 3) -> dspy.Prediction:
        if not question or not question.strip():
            raise ValueError("question must not be empty")
        pages = web_search(question, k)
        answer = self.answer(pages=pages, question=question).answer
        claims = self.claims(answer=answer).claims
        supported = {}
        for claim in claims:
            votes = [self.support(claim=claim, page=page).supported for page in pages]
            supported[claim] = sum(votes) >= len(votes) / 2
        follow_ups = self.suggest(question=question, pages=pages).follow_ups
        return dspy.Prediction(
            answer=answer,
            supported=supported,
            score=sum(supported.values()) / len(supported) if supported else 0.0,
            follow_ups=follow_ups[:2],
        )


class FactCheckedAnswerByHand(FactCheckedAnswer):
    async def aforward(self, question: str, k: int = 3) -> dspy.Prediction:
        if not question or not question.strip():
            raise ValueError("question must not be empty")
        pages = await asyncio.to_thread(web_search, question, k)

        async def votes(claim):
            found = await asyncio.gather(*(self.support.acall(claim=claim, page=page) for page in pages))
            return sum(each.supported for each in found) >= len(found) / 2

        follow_ups = asyncio.ensure_future(self.suggest.acall(question=question, pages=pages))
        answer = (await self.answer.acall(pages=pages, question=question)).answer
        claims = (await self.claims.acall(answer=answer)).claims
        supported = dict(zip(claims, await asyncio.gather(*map(votes, claims))))
        return dspy.Prediction(
            answer=answer,
            supported=supported,
            score=sum(supported.values()) / len(supported) if supported else 0.0,
            follow_ups=(await follow_ups).follow_ups[:2],
        )


class GlossaryAnswer(dspy.Module):
    """Reads its glossary from a file when it is called; keeps a history of the talk."""

    def __init__(self, path: Path = Path(__file__).with_name("glossary.json")):
        super().__init__()
        self.path = path
        self.history = []
        self.detect_language = dspy.Predict("message -> language")
        self.simplify = dspy.Predict("term, definition -> explanation")
        self.reply = dspy.ChainOfThought("message, explanations: dict[str, str], turns: list[str] -> reply")
        self.translate = dspy.Predict("reply, language -> translated")

    def forward(self, message: str):
        with open(self.path, encoding="utf-8") as f:
            glossary = json.load(f)
        language = self.detect_language(message=message).language
        explanations = {}
        for term, definition in glossary.items():
            if term.lower() in message.lower():
                explanations[term] = self.simplify(term=term, definition=definition).explanation
        turns = [f"{role}: {text}" for role, text in self.turns(message)]
        reply = self.reply(message=message, explanations=explanations, turns=turns).reply
        return dspy.Prediction(reply=self.translate(reply=reply, language=language).translated, language=language)

    def turns(self, message: str) -> list[tuple[str, str]]:
        return [("user", part.strip()) for part in re.split(r"[.?!]", message) if part.strip()]


class GlossaryAnswerByHand(GlossaryAnswer):
    async def aforward(self, message: str):
        with open(self.path, encoding="utf-8") as f:
            glossary = json.load(f)
        terms = [term for term in glossary if term.lower() in message.lower()]
        language, *simple = await asyncio.gather(
            self.detect_language.acall(message=message),
            *(self.simplify.acall(term=term, definition=glossary[term]) for term in terms),
        )
        explanations = {term: each.explanation for term, each in zip(terms, simple)}
        turns = [f"{role}: {text}" for role, text in self.turns(message)]
        reply = (await self.reply.acall(message=message, explanations=explanations, turns=turns)).reply
        translated = await self.translate.acall(reply=reply, language=language.language)
        return dspy.Prediction(reply=translated.translated, language=language.language)


class HybridSearch(dspy.Module):
    """BM25 in memory, with a cache of its own, for the sub-questions of a question."""

    def __init__(self, corpus: Optional[list[str]] = None):
        super().__init__()
        self.corpus = corpus or [f"Tide table {n}: high water at {n} o'clock in harbour {n % 5}" for n in range(12)]
        self.tokens = [Counter(re.findall(r"\w+", text.lower())) for text in self.corpus]
        self.cache: dict[str, Any] = {}
        self.decompose = dspy.ChainOfThought("question -> sub_questions: list[str]")
        self.answer_sub = dspy.Predict("context: list[str], question -> answer")
        self.combine = dspy.ChainOfThought("question, answers: dict[str, str] -> answer, confident: bool")

    def _idf(self, term: str) -> float:
        n = sum(1 for tokens in self.tokens if term in tokens)
        return math.log(1 + (len(self.tokens) - n + 0.5) / (n + 0.5))

    def search(self, query: str, k: int = 2) -> list[str]:
        if query in self.cache:
            return self.cache[query]
        scores = [sum(self._idf(t) * tokens[t] for t in re.findall(r"\w+", query.lower())) for tokens in self.tokens]
        best = sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)[:k]
        self.cache[query] = [self.corpus[i] for i in best]
        return self.cache[query]

    def forward(self, question: str):
        sub_questions = self.decompose(question=question).sub_questions
        answers = {}
        for sub in [question, *sub_questions[:3]]:
            context = self.search(sub)
            answers[sub] = self.answer_sub(context=context, question=sub).answer
        final = self.combine(question=question, answers=answers)
        if not final.confident:
            final.answer += " (not certain)"
        return dspy.Prediction(answer=final.answer, looked_up=len(self.cache))


class HybridSearchByHand(HybridSearch):
    async def aforward(self, question: str):
        async def answer(sub):
            return (await self.answer_sub.acall(context=self.search(sub), question=sub)).answer

        first = asyncio.ensure_future(answer(question))
        sub_questions = (await self.decompose.acall(question=question)).sub_questions[:3]
        answers = {question: await first, **dict(zip(sub_questions, await asyncio.gather(*map(answer, sub_questions))))}
        final = await self.combine.acall(question=question, answers=answers)
        if not final.confident:
            final.answer += " (not certain)"
        return dspy.Prediction(answer=final.answer, looked_up=len(self.cache))


QUESTION = "When is high water in harbour 3, and who measures it?"

PROGRAMS = [
    Program(
        "Retrieve, several queries",
        "dspy.Retrieve, ColBERTv2",
        MultiQueryRAG,
        MultiQueryRAGByHand,
        {"question": QUESTION},
        5,
        3,
    ),
    Program("Baleen", "DSPy's introduction", SimplifiedBaleen, SimplifiedBaleenByHand, {"question": QUESTION}, 3, 3),
    Program(
        "RAG with reranking",
        "a client in an attribute, findall, attributes of a prediction",
        RerankedRAG,
        RerankedRAGByHand,
        {"question": QUESTION},
        13,
        3,
    ),
    Program(
        "corrective RAG",
        "undecided branch with a search",
        CorrectiveRAG,
        CorrectiveRAGByHand,
        {"question": QUESTION},
        6,
        3,
    ),
    Program(
        "answer, checked",
        "urllib, not declared; raise before the calls",
        FactCheckedAnswer,
        FactCheckedAnswerByHand,
        {"question": QUESTION},
        9,
        3,
    ),
    Program(
        "glossary",
        "open, json.load",
        GlossaryAnswer,
        GlossaryAnswerByHand,
        {"message": "What is a spring tide? Does a gauge measure it?"},
        6,
        3,
    ),
    Program(
        "BM25 in memory",
        "a cache in an attribute, math.log",
        HybridSearch,
        HybridSearchByHand,
        {"question": QUESTION},
        5,
        3,
    ),
]

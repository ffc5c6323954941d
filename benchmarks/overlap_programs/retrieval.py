"""Programs that look things up. The retriever is a plain function over a small corpus."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS", "search"]

CORPUS = (
    "The old bridge was built of wood in 1780 and burned in 1812.",
    "The stone bridge has five arches; the third was rebuilt after the flood.",
    "Floods come in April, when the snow melts in the hills.",
    "The mill below the bridge ground rye until 1901.",
    "Trade moved to the railway, and the harbour fell silent.",
    "The mayor of 1812 was a merchant who sold timber.",
    "A second bridge was planned in 1930 and never built.",
    "The river is 40 m wide at the bridge and 3 m deep.",
)


def search(query: str, k: int = 3) -> list[str]:
    """The k passages that share most words with the query."""
    words = set(query.lower().split())
    ranked = sorted(CORPUS, key=lambda passage: len(words & set(passage.lower().split())), reverse=True)
    return ranked[:k]


class MultiQueryRAG(dspy.Module):
    """Several queries, a note on the passages of each, one answer."""

    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.k = k
        self.expand = dspy.Predict("question -> queries: list[str]")
        self.take_notes = dspy.Predict("question, passages: list[str] -> notes")
        self.answer = dspy.ChainOfThought("question, context: list[str] -> answer")

    def forward(self, question: str) -> Any:
        queries = [question, *self.expand(question=question).queries]
        context = []
        for query in queries:
            passages = search(query, k=self.k)
            context.append(self.take_notes(question=query, passages=passages).notes)
        return dspy.Prediction(context=context, answer=self.answer(question=question, context=context).answer)


class MultiQueryRAGByHand(MultiQueryRAG):
    async def aforward(self, question: str) -> Any:
        async def noted(query: str) -> str:
            return (await self.take_notes.acall(question=query, passages=search(query, k=self.k))).notes

        first = asyncio.create_task(noted(question))
        queries = (await self.expand.acall(question=question)).queries
        others = await asyncio.gather(*map(noted, queries))
        context = [await first, *others]
        answer = await self.answer.acall(question=question, context=context)
        return dspy.Prediction(context=context, answer=answer.answer)


class MultiHop(dspy.Module):
    """Each hop's query needs the passages of the hop before: nothing to gain."""

    def __init__(self, hops: int = 3) -> None:
        super().__init__()
        self.generate_query = [dspy.ChainOfThought("context: list[str], question -> query") for _ in range(hops)]
        self.generate_answer = dspy.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str) -> Any:
        context: list[str] = []
        for generate_query in self.generate_query:
            query = generate_query(context=context, question=question).query
            context = list(dict.fromkeys(context + search(query)))
        answer = self.generate_answer(context=context, question=question)
        return dspy.Prediction(context=context, answer=answer.answer)


class MultiHopByHand(MultiHop):
    async def aforward(self, question: str) -> Any:
        context: list[str] = []
        for generate_query in self.generate_query:
            query = (await generate_query.acall(context=context, question=question)).query
            context = list(dict.fromkeys(context + search(query)))
        answer = await self.generate_answer.acall(context=context, question=question)
        return dspy.Prediction(context=context, answer=answer.answer)


class Hover(dspy.Module):
    """DSPy's tutorial on multi-hop search: notes and titles pile up hop by hop."""

    def __init__(self, num_hops: int = 3, num_docs: int = 2) -> None:
        super().__init__()
        self.num_hops, self.num_docs = num_hops, num_docs
        self.generate_query = dspy.ChainOfThought("claim, notes -> query")
        self.append_notes = dspy.ChainOfThought("claim, notes, context -> new_notes: list[str], titles: list[str]")

    def forward(self, claim: str) -> Any:
        notes: list[str] = []
        titles: list[str] = []
        for _ in range(self.num_hops):
            query = self.generate_query(claim=claim, notes=notes).query
            context = search(query, k=self.num_docs)
            prediction = self.append_notes(claim=claim, notes=notes, context=context)
            notes.extend(prediction.new_notes)
            titles.extend(prediction.titles)
        return dspy.Prediction(notes=notes, titles=sorted(set(titles)))


class HoverByHand(Hover):
    async def aforward(self, claim: str) -> Any:
        notes: list[str] = []
        titles: list[str] = []
        for _ in range(self.num_hops):
            query = (await self.generate_query.acall(claim=claim, notes=notes)).query
            prediction = await self.append_notes.acall(claim=claim, notes=notes, context=search(query, k=self.num_docs))
            notes.extend(prediction.new_notes)
            titles.extend(prediction.titles)
        return dspy.Prediction(notes=notes, titles=sorted(set(titles)))


class Verify(dspy.Signature):
    """Decide whether the evidence supports a statement."""

    statement: str = dspy.InputField()
    evidence: list[str] = dspy.InputField()
    verdict: Literal["supported", "refuted", "unknown"] = dspy.OutputField()


class ClaimVerification(dspy.Module):
    """Split a claim into statements, check each against what is found, and count."""

    def __init__(self) -> None:
        super().__init__()
        self.decompose = dspy.ChainOfThought("claim -> statements: list[str]")
        self.to_query = dspy.Predict("statement -> query")
        self.verify = dspy.ChainOfThought(Verify)
        self.explain = dspy.Predict("claim, verdicts: dict[str, str] -> explanation")

    def forward(self, claim: str) -> Any:
        verdicts = {}
        for statement in self.decompose(claim=claim).statements:
            query = self.to_query(statement=statement).query
            verdicts[statement] = self.verify(statement=statement, evidence=search(query)).verdict
        refuted = [statement for statement, verdict in verdicts.items() if verdict == "refuted"]
        if refuted:
            label = "false"
        elif all(verdict == "supported" for verdict in verdicts.values()):
            label = "true"
        else:
            label = "not proven"
        explanation = self.explain(claim=claim, verdicts=verdicts).explanation
        return dspy.Prediction(label=label, refuted=refuted, explanation=explanation)


class ClaimVerificationByHand(ClaimVerification):
    async def aforward(self, claim: str) -> Any:
        async def verified(statement: str) -> str:
            query = (await self.to_query.acall(statement=statement)).query
            return (await self.verify.acall(statement=statement, evidence=search(query))).verdict

        statements = (await self.decompose.acall(claim=claim)).statements
        verdicts = dict(zip(statements, await asyncio.gather(*map(verified, statements)), strict=True))
        refuted = [statement for statement, verdict in verdicts.items() if verdict == "refuted"]
        supported = all(verdict == "supported" for verdict in verdicts.values())
        label = "false" if refuted else "true" if supported else "not proven"
        explanation = (await self.explain.acall(claim=claim, verdicts=verdicts)).explanation
        return dspy.Prediction(label=label, refuted=refuted, explanation=explanation)


class RewriteAndRerank(dspy.Module):
    """The question in several wordings; what they find is rated passage by passage."""

    def __init__(self, wordings: int = 3) -> None:
        super().__init__()
        self.wordings = wordings
        self.rewrite = dspy.Predict("question, number: int -> query")
        self.rate = dspy.Predict("question, passage -> relevance: float")
        self.answer = dspy.ChainOfThought("question, context: list[str] -> answer")

    def forward(self, question: str) -> Any:
        pool = set()
        for number in range(self.wordings):
            pool.update(search(self.rewrite(question=question, number=number).query, k=4))
        passages = sorted(pool)
        scores = [self.rate(question=question, passage=passage).relevance for passage in passages]
        ranked = [passage for _, passage in sorted(zip(scores, passages, strict=True), reverse=True)]
        context = ranked[:2]
        return dspy.Prediction(answer=self.answer(question=question, context=context).answer, context=context)


class RewriteAndRerankByHand(RewriteAndRerank):
    async def aforward(self, question: str) -> Any:
        found = await asyncio.gather(*(self.rewrite.acall(question=question, number=n) for n in range(self.wordings)))
        passages = sorted({passage for each in found for passage in search(each.query, k=4)})
        rated = await asyncio.gather(*(self.rate.acall(question=question, passage=passage) for passage in passages))
        scores = [each.relevance for each in rated]
        context = [passage for _, passage in sorted(zip(scores, passages, strict=True), reverse=True)][:2]
        return dspy.Prediction(
            answer=(await self.answer.acall(question=question, context=context)).answer, context=context
        )


class StepBack(dspy.Module):
    """A more general question beside the question itself."""

    def __init__(self) -> None:
        super().__init__()
        self.step_back = dspy.Predict("question -> general_question")
        self.principles = dspy.Predict("general_question, passages: list[str] -> principles")
        self.facts = dspy.Predict("question, passages: list[str] -> facts")
        self.answer = dspy.ChainOfThought("question, principles, facts -> answer")

    def forward(self, question: str) -> Any:
        general = self.step_back(question=question).general_question
        principles = self.principles(general_question=general, passages=search(general))
        facts = self.facts(question=question, passages=search(question))
        return self.answer(question=question, principles=principles.principles, facts=facts.facts)


class StepBackByHand(StepBack):
    async def aforward(self, question: str) -> Any:
        facts = asyncio.create_task(self.facts.acall(question=question, passages=search(question)))
        general = (await self.step_back.acall(question=question)).general_question
        principles = await self.principles.acall(general_question=general, passages=search(general))
        found = (await facts).facts
        return await self.answer.acall(question=question, principles=principles.principles, facts=found)


QUESTION = {"question": "Who was mayor when the old bridge burned?"}

PROGRAMS = [
    Program(
        "RAG with several queries",
        "RAG-Fusion, arXiv 2402.03367",
        MultiQueryRAG,
        MultiQueryRAGByHand,
        QUESTION,
        7,
        3,
        {"queries": ["old bridge burned", "mayor of 1812", "wood or stone", "timber merchant"]},
    ),
    Program("multi-hop", "Baleen, arXiv 2101.00436", MultiHop, MultiHopByHand, QUESTION, 4, 4),
    Program("hover", "DSPy tutorial, multi-hop search", Hover, HoverByHand, {"claim": "Timber burned twice."}, 6, 6),
    Program(
        "claim verification",
        "FActScore, arXiv 2305.14251",
        ClaimVerification,
        ClaimVerificationByHand,
        {"claim": "The mayor sold timber for the bridge, which burned, and he built a second one."},
        1 + 2 * 4 + 1,
        4,
        {"statements": ["The mayor sold timber.", "The bridge burned.", "A second one was built.", "He built it."]},
    ),
    Program(
        "rewrite and rerank", "RankGPT, arXiv 2304.09542", RewriteAndRerank, RewriteAndRerankByHand, QUESTION, 8, 3
    ),
    Program("step back", "arXiv 2310.06117", StepBack, StepBackByHand, QUESTION, 4, 3),
]

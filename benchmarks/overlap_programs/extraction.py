"""Programs that turn text into data."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy
import pydantic

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS", "PropertyExtraction"]


class TimeProperties(dspy.Signature):
    """Find conditions on properties that are points in time."""

    branch_intent: str = dspy.InputField()
    selected_label: str = dspy.InputField()
    time_properties: list[str] = dspy.InputField()
    current_datetime: str = dspy.InputField()
    conditions: list[str] = dspy.OutputField()


class OtherProperties(dspy.Signature):
    """Find conditions on all other properties."""

    branch_intent: str = dspy.InputField()
    selected_label: str = dspy.InputField()
    properties: list[str] = dspy.InputField()
    conditions: list[str] = dspy.OutputField()


class VectorSearch(dspy.Signature):
    """Decide whether a search by meaning is needed, and for what."""

    branch_intent: str = dspy.InputField()
    selected_label: str = dspy.InputField()
    needed: bool = dspy.OutputField()
    search_text: str = dspy.OutputField()


class PropertyExtraction(dspy.Module):
    """Three extractors, written one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.time_extractor = dspy.ChainOfThought(TimeProperties)
        self.other_extractor = dspy.ChainOfThought(OtherProperties)
        self.vector_extractor = dspy.ChainOfThought(VectorSearch)

    def forward(self, branch_intent: str, selected_label: str, properties: dict[str, str], now: str) -> Any:
        times = [name for name, kind in properties.items() if kind == "datetime"]
        time = self.time_extractor(
            branch_intent=branch_intent, selected_label=selected_label, time_properties=times, current_datetime=now
        )
        other = self.other_extractor(
            branch_intent=branch_intent,
            selected_label=selected_label,
            properties=[name for name in properties if name not in times],
        )
        vector = self.vector_extractor(branch_intent=branch_intent, selected_label=selected_label)
        return dspy.Prediction(
            time_extraction_result=time.conditions,
            nontime_extraction_result=other.conditions,
            vector_search_result=vector.search_text if vector.needed else None,
        )


class PropertyExtractionByHand(PropertyExtraction):
    async def aforward(self, branch_intent: str, selected_label: str, properties: dict[str, str], now: str) -> Any:
        times = [name for name, kind in properties.items() if kind == "datetime"]
        others = [name for name in properties if name not in times]
        given = {"branch_intent": branch_intent, "selected_label": selected_label}
        time, other, vector = await asyncio.gather(
            self.time_extractor.acall(**given, time_properties=times, current_datetime=now),
            self.other_extractor.acall(**given, properties=others),
            self.vector_extractor.acall(**given),
        )
        return dspy.Prediction(
            time_extraction_result=time.conditions,
            nontime_extraction_result=other.conditions,
            vector_search_result=vector.search_text if vector.needed else None,
        )


class Invoice(pydantic.BaseModel):
    """What an invoice says."""

    customer: str
    items: int
    total: float


class ExtractInvoice(dspy.Signature):
    """Read an invoice."""

    document: str = dspy.InputField()
    complaints: list[str] = dspy.InputField()
    invoice: Invoice = dspy.OutputField()


class ValidatedExtraction(dspy.Module):
    """Each document is read until its record is in order, three times at most."""

    def __init__(self, attempts: int = 3) -> None:
        super().__init__()
        self.attempts = attempts
        self.extract = dspy.Predict(ExtractInvoice)
        self.report = dspy.Predict("invoices: list[str], failed: int -> report")

    def forward(self, documents: list[str]) -> Any:
        invoices, failed = [], 0
        for document in documents:
            invoice = self.read(document)
            if invoice is None:
                failed += 1
            else:
                invoices.append(f"{invoice.customer}: {invoice.items} for {invoice.total}")
        report = self.report(invoices=invoices, failed=failed).report
        return dspy.Prediction(invoices=invoices, failed=failed, report=report)

    def read(self, document: str) -> Any:
        complaints: list[str] = []
        for _attempt in range(self.attempts):
            invoice = self.extract(document=document, complaints=complaints).invoice
            complaints = self.validate(invoice)
            if not complaints:
                return invoice
        return None

    def validate(self, invoice: Invoice) -> list[str]:
        complaints = []
        if invoice.items % 2:
            complaints.append(f"{invoice.items} is odd, but items come in pairs")
        if invoice.total > 0.9:
            complaints.append("the total is too high")
        return complaints


class ValidatedExtractionByHand(ValidatedExtraction):
    async def aforward(self, documents: list[str]) -> Any:
        found = await asyncio.gather(*map(self.aread, documents))
        invoices = [f"{each.customer}: {each.items} for {each.total}" for each in found if each is not None]
        failed = found.count(None)
        report = (await self.report.acall(invoices=invoices, failed=failed)).report
        return dspy.Prediction(invoices=invoices, failed=failed, report=report)

    async def aread(self, document: str) -> Any:
        complaints: list[str] = []
        for _attempt in range(self.attempts):
            invoice = (await self.extract.acall(document=document, complaints=complaints)).invoice
            complaints = self.validate(invoice)
            if not complaints:
                return invoice
        return None


class AspectSentiment(dspy.Module):
    """Aspects of each review, a sentiment for each aspect, and an overall one that needs no aspects."""

    def __init__(self) -> None:
        super().__init__()
        self.aspects = dspy.Predict("review -> aspects: list[str]")
        self.sentiment = dspy.Predict("review, aspect -> polarity: float")
        self.overall = dspy.Predict("review -> overall: float")
        self.advise = dspy.ChainOfThought("table: dict[str, float], mean: float -> advice")

    def forward(self, reviews: list[str]) -> Any:
        table: dict[str, list[float]] = {}
        overall = []
        for review in reviews:
            for aspect in self.aspects(review=review).aspects:
                table.setdefault(aspect, [])
                table[aspect].append(self.sentiment(review=review, aspect=aspect).polarity)
            overall.append(self.overall(review=review).overall)
        means = {aspect: round(sum(found) / len(found), 3) for aspect, found in table.items()}
        mean = sum(overall) / len(overall)
        return dspy.Prediction(means=means, advice=self.advise(table=means, mean=mean).advice)


class AspectSentimentByHand(AspectSentiment):
    async def aforward(self, reviews: list[str]) -> Any:
        async def polarity(review: str, aspect: str) -> float:
            return (await self.sentiment.acall(review=review, aspect=aspect)).polarity

        async def polarities(review: str) -> list[tuple[str, float]]:
            aspects = (await self.aspects.acall(review=review)).aspects
            return list(zip(aspects, await asyncio.gather(*(polarity(review, a) for a in aspects)), strict=True))

        overall_task = asyncio.gather(*(self.overall.acall(review=review) for review in reviews))
        table: dict[str, list[float]] = {}
        for found in await asyncio.gather(*map(polarities, reviews)):
            for aspect, value in found:
                table.setdefault(aspect, []).append(value)
        means = {aspect: round(sum(found) / len(found), 3) for aspect, found in table.items()}
        overall = [each.overall for each in await overall_task]
        advised = await self.advise.acall(table=means, mean=sum(overall) / len(overall))
        return dspy.Prediction(means=means, advice=advised.advice)


class Triple(pydantic.BaseModel):
    """An edge of a graph."""

    subject: str
    relation: str
    object: str


class ExtractTriples(dspy.Signature):
    """Find what a text says about whom."""

    text: str = dspy.InputField()
    triples: list[Triple] = dspy.OutputField()


class KnowledgeGraph(dspy.Module):
    """Triples from each chunk, without duplicates; each entity described from its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.extract = dspy.ChainOfThought(ExtractTriples)
        self.describe = dspy.Predict("entity, facts: list[str] -> description")

    def forward(self, chunks: list[str]) -> Any:
        seen: set[tuple[str, str, str]] = set()
        edges: list[tuple[str, str, str]] = []
        for chunk in chunks:
            for triple in self.extract(text=chunk).triples:
                edge = (triple.subject.lower(), triple.relation, triple.object.lower())
                if edge not in seen:
                    seen.add(edge)
                    edges.append(edge)
        entities = sorted({edge[0] for edge in edges})
        descriptions = {
            entity: self.describe(entity=entity, facts=[" ".join(e) for e in edges if e[0] == entity]).description
            for entity in entities
        }
        return dspy.Prediction(edges=edges, descriptions=descriptions)


class KnowledgeGraphByHand(KnowledgeGraph):
    async def aforward(self, chunks: list[str]) -> Any:
        found = await asyncio.gather(*(self.extract.acall(text=chunk) for chunk in chunks))
        triples = (triple for each in found for triple in each.triples)
        edges = list(dict.fromkeys((t.subject.lower(), t.relation, t.object.lower()) for t in triples))
        entities = sorted({edge[0] for edge in edges})
        described = await asyncio.gather(
            *(self.describe.acall(entity=n, facts=[" ".join(e) for e in edges if e[0] == n]) for n in entities)
        )
        descriptions = {entity: each.description for entity, each in zip(entities, described, strict=True)}
        return dspy.Prediction(edges=edges, descriptions=descriptions)


class ClassifyEmail(dspy.Signature):
    """Classify the type and urgency of an email based on its content."""

    email_subject: str = dspy.InputField()
    email_body: str = dspy.InputField()
    sender: str = dspy.InputField()
    email_type: Literal["order", "support", "meeting", "newsletter", "other"] = dspy.OutputField()
    urgency: Literal["low", "medium", "high", "critical"] = dspy.OutputField()


class EmailProcessor(dspy.Module):
    """DSPy's tutorial on extracting information from emails."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = dspy.ChainOfThought(ClassifyEmail)
        self.entity_extractor = dspy.ChainOfThought(
            "email_content, email_type -> key_entities: list[str], financial_amount: float, important_dates: list[str]"
        )
        self.action_generator = dspy.ChainOfThought(
            "email_type, urgency, email_summary, extracted_entities -> action_required: bool, action_items: list[str]"
        )
        self.summarizer = dspy.ChainOfThought("email_subject, email_body, key_entities: list[str] -> summary")

    def forward(self, email_subject: str, email_body: str, sender: str = "") -> Any:
        classification = self.classifier(email_subject=email_subject, email_body=email_body, sender=sender)
        full_content = f"Subject: {email_subject}\n\nFrom: {sender}\n\n{email_body}"
        entities = self.entity_extractor(email_content=full_content, email_type=classification.email_type)
        summary = self.summarizer(
            email_subject=email_subject, email_body=email_body, key_entities=entities.key_entities
        )
        actions = self.action_generator(
            email_type=classification.email_type,
            urgency=classification.urgency,
            email_summary=f"Subject: {email_subject}. Body: {email_body[:500]}...",
            extracted_entities=str(entities.key_entities),
        )
        return dspy.Prediction(
            email_type=classification.email_type,
            urgency=classification.urgency,
            summary=summary.summary,
            financial_amount=entities.financial_amount,
            action_items=actions.action_items if actions.action_required else [],
        )


class EmailProcessorByHand(EmailProcessor):
    async def aforward(self, email_subject: str, email_body: str, sender: str = "") -> Any:
        classification = await self.classifier.acall(email_subject=email_subject, email_body=email_body, sender=sender)
        full_content = f"Subject: {email_subject}\n\nFrom: {sender}\n\n{email_body}"
        entities = await self.entity_extractor.acall(email_content=full_content, email_type=classification.email_type)
        summary, actions = await asyncio.gather(
            self.summarizer.acall(
                email_subject=email_subject, email_body=email_body, key_entities=entities.key_entities
            ),
            self.action_generator.acall(
                email_type=classification.email_type,
                urgency=classification.urgency,
                email_summary=f"Subject: {email_subject}. Body: {email_body[:500]}...",
                extracted_entities=str(entities.key_entities),
            ),
        )
        return dspy.Prediction(
            email_type=classification.email_type,
            urgency=classification.urgency,
            summary=summary.summary,
            financial_amount=entities.financial_amount,
            action_items=actions.action_items if actions.action_required else [],
        )


PROGRAMS = [
    Program(
        "three extractors",
        "a graph search agent",
        PropertyExtraction,
        PropertyExtractionByHand,
        {
            "branch_intent": "ideas about rivers from this week",
            "selected_label": "Idea",
            "properties": {"created_at": "datetime", "title": "string", "votes": "integer"},
            "now": "2025-12-12T00:00:00Z",
        },
        3,
        1,
    ),
    Program(
        "validated extraction",
        "Instructor, validation and retries",
        ValidatedExtraction,
        ValidatedExtractionByHand,
        {"documents": [f"Invoice {n} to customer {n % 3}" for n in range(6)]},
        9,
        3,
    ),
    Program(
        "aspect sentiment",
        "SemEval 2014, task 4",
        AspectSentiment,
        AspectSentimentByHand,
        {"reviews": [f"Room {n} was clean, the soup was cold." for n in range(4)]},
        4 * (1 + 3 + 1) + 1,
        3,
        {"aspects": ["room", "food", "service"]},
    ),
    Program(
        "knowledge graph",
        "GraphRAG, arXiv 2404.16130",
        KnowledgeGraph,
        KnowledgeGraphByHand,
        {"chunks": [f"Paragraph {n}: Ada met Babbage in year {n}." for n in range(5)]},
        15,
        2,
    ),
    Program(
        "email triage",
        "DSPy tutorial, email extraction",
        EmailProcessor,
        EmailProcessorByHand,
        {"email_subject": "Invoice overdue", "email_body": "Please pay 40 by Friday. " * 9, "sender": "a@b.example"},
        4,
        3,
    ),
]

"""Programs that read records out of text."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Dict, List, Literal, Optional

import dspy
from pydantic import BaseModel, Field, ValidationError, field_validator

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger(__name__)


class FactExtractor(dspy.Module):
    """Extracts facts chunk by chunk; replies are JSON, sometimes in a code fence."""

    FENCE = re.compile(r"^```(?:json)?\s*|\s*```$", re.MULTILINE)

    def __init__(self, chunk_size: int = 120):
        super().__init__()
        self.chunk_size = chunk_size
        self.extract = dspy.ChainOfThought("chunk, section -> facts_json, confidence: float")
        self.summarize = dspy.Predict("facts: list[str] -> summary")

    def _clean(self, raw: str) -> List[Dict[str, Any]]:
        text = self.FENCE.sub("", raw).strip()
        try:
            data = json.loads(text)
        except json.JSONDecodeError as e:
            logger.warning("Could not parse facts: %s", e)
            return []
        return data if isinstance(data, list) else [data]

    def forward(self, text: str):
        chunks = [text[i : i + self.chunk_size] for i in range(0, len(text), self.chunk_size)]
        logger.info(f"Extracting facts from {len(chunks)} chunks")
        all_facts = []
        for i, chunk in enumerate(chunks):
            result = self.extract(chunk=chunk, section=f"{i + 1}/{len(chunks)}")
            facts = self._clean(result.facts_json)
            logger.info(f"Chunk {i + 1}: {len(facts)} facts (confidence {result.confidence:.2f})")
            for fact in facts:
                fact["chunk"] = i
                fact["confidence"] = round(result.confidence, 2)
                all_facts.append(fact)
        all_facts = [f for f in all_facts if f["confidence"] >= 0.3]
        summary = self.summarize(facts=[f"{f['name']}: {f['value']}" for f in all_facts]).summary
        return dspy.Prediction(facts=all_facts, summary=summary)


class FactExtractorByHand(FactExtractor):
    async def aforward(self, text: str):
        chunks = [text[i : i + self.chunk_size] for i in range(0, len(text), self.chunk_size)]
        results = await asyncio.gather(
            *(self.extract.acall(chunk=c, section=f"{i + 1}/{len(chunks)}") for i, c in enumerate(chunks))
        )
        all_facts = [
            {**fact, "chunk": i, "confidence": round(result.confidence, 2)}
            for i, result in enumerate(results)
            for fact in self._clean(result.facts_json)
        ]
        all_facts = [f for f in all_facts if f["confidence"] >= 0.3]
        summary = (await self.summarize.acall(facts=[f"{f['name']}: {f['value']}" for f in all_facts])).summary
        return dspy.Prediction(facts=all_facts, summary=summary)


class Experience(BaseModel):
    company: str = Field(description="Name of the employer")
    title: str
    years: float = Field(ge=0, le=1)

    @field_validator("company", "title")
    @classmethod
    def strip_whitespace(cls, v: str) -> str:
        return v.strip()


class Resume(BaseModel):
    name: str
    skills: List[str] = Field(default_factory=list)
    experience: List[Experience] = Field(default_factory=list)
    seniority: Optional[str] = None

    @property
    def total_years(self) -> float:
        return sum(e.years for e in self.experience)


class ExtractExperience(dspy.Signature):
    """Extract all positions held."""

    resume_text: str = dspy.InputField()
    experience: List[Experience] = dspy.OutputField()


class ResumeParser(dspy.Module):
    def __init__(self):
        super().__init__()
        self.contact = dspy.Predict("resume_text -> name, email, phone")
        self.skills = dspy.Predict("resume_text -> skills: list[str]")
        self.experience = dspy.ChainOfThought(ExtractExperience)
        self.classify = dspy.Predict("experience, total_years: float -> seniority")
        self.last_resume = None
        self.parsed = 0

    def forward(self, resume_text):
        contact = self.contact(resume_text=resume_text)
        skills = self.skills(resume_text=resume_text).skills
        experience = self.experience(resume_text=resume_text).experience
        resume = Resume(name=contact.name, skills=[s.lower().strip() for s in skills], experience=experience)
        resume.seniority = self.classify(
            experience="; ".join(f"{e.title} at {e.company}" for e in resume.experience),
            total_years=resume.total_years,
        ).seniority
        self.last_resume = resume
        self.parsed += 1
        return dspy.Prediction(resume=resume, email=contact.email)


class ResumeParserByHand(ResumeParser):
    async def aforward(self, resume_text):
        contact, skills, experience = await asyncio.gather(
            self.contact.acall(resume_text=resume_text),
            self.skills.acall(resume_text=resume_text),
            self.experience.acall(resume_text=resume_text),
        )
        skills = [s.lower().strip() for s in skills.skills]
        resume = Resume(name=contact.name, skills=skills, experience=experience.experience)
        classified = await self.classify.acall(
            experience="; ".join(f"{e.title} at {e.company}" for e in resume.experience),
            total_years=resume.total_years,
        )
        resume.seniority = classified.seniority
        self.last_resume = resume
        self.parsed += 1
        return dspy.Prediction(resume=resume, email=contact.email)


SECTION = re.compile(r"^(?P<number>\d+)\.\s+(?P<title>[^\n]+)\n", re.MULTILINE)


@dataclass
class Clause:
    number: int
    title: str
    text: str
    category: str = "other"
    risk: float = 0.0
    notes: List[str] = field(default_factory=list)


class ContractReviewer(dspy.Module):
    """Splits a contract at its headings; classifies and rates each clause; explains the risky ones."""

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold = threshold
        self.categorize = dspy.Predict("title, clause -> category: Literal['payment', 'liability', 'term', 'other']")
        self.rate = dspy.ChainOfThought("clause, category -> risk: float")
        self.explain = dspy.Predict("clause, risk: float -> explanation")

    def split(self, contract: str) -> List[Clause]:
        matches = list(SECTION.finditer(contract))
        clauses = []
        for i, m in enumerate(matches):
            end = matches[i + 1].start() if i + 1 < len(matches) else len(contract)
            clauses.append(Clause(int(m.group("number")), m.group("title").strip(), contract[m.end() : end].strip()))
        return clauses

    def forward(self, contract: str):
        clauses = self.split(contract)
        if not clauses:
            logger.warning("No clauses found")
            return dspy.Prediction(clauses=[], risky=[])
        for clause in clauses:
            clause.category = self.categorize(title=clause.title, clause=clause.text).category
            clause.risk = min(max(self.rate(clause=clause.text, category=clause.category).risk, 0.0), 1.0)
            if clause.risk > self.threshold:
                clause.notes.append(self.explain(clause=clause.text, risk=clause.risk).explanation)
        risky = sorted((c for c in clauses if c.notes), key=lambda c: c.risk, reverse=True)
        return dspy.Prediction(clauses=[asdict(c) for c in clauses], risky=[c.title for c in risky])


class ContractReviewerByHand(ContractReviewer):
    async def aforward(self, contract: str):
        clauses = self.split(contract)

        async def review(clause):
            clause.category = (await self.categorize.acall(title=clause.title, clause=clause.text)).category
            rated = await self.rate.acall(clause=clause.text, category=clause.category)
            clause.risk = min(max(rated.risk, 0.0), 1.0)
            if clause.risk > self.threshold:
                clause.notes.append((await self.explain.acall(clause=clause.text, risk=clause.risk)).explanation)

        await asyncio.gather(*map(review, clauses))
        risky = sorted((c for c in clauses if c.notes), key=lambda c: c.risk, reverse=True)
        return dspy.Prediction(clauses=[asdict(c) for c in clauses], risky=[c.title for c in risky])


class Medication(BaseModel):
    drug: str = Field(min_length=2)
    dose_mg: float = Field(gt=0.2)


class CodeDiagnosis(dspy.Signature):
    """Map a diagnosis to its ICD-10 code."""

    diagnosis: str = dspy.InputField(desc="as written by the doctor")
    icd10: str = dspy.OutputField()
    certain: bool = dspy.OutputField()


class ClinicalNotes(dspy.Module):
    def __init__(self):
        super().__init__()
        self.find_diagnoses = dspy.Predict("note -> diagnoses: list[str]")
        self.find_drugs = dspy.Predict("note -> drugs: list[str]")
        self.code = dspy.ChainOfThought(CodeDiagnosis)
        self.dose = dspy.Predict("note, drug -> dose_mg: float")

    def forward(self, notes: list[str]):
        patients = []
        errors = []
        for note in notes:
            record: dict[str, Any] = {"codes": {}, "medications": []}
            for diagnosis in self.find_diagnoses(note=note).diagnoses:
                coded = self.code(diagnosis=diagnosis)
                if not coded.certain:
                    continue
                record["codes"][diagnosis] = coded.icd10.upper()
            for drug in self.find_drugs(note=note).drugs:
                try:
                    medication = Medication(drug=drug, dose_mg=self.dose(note=note, drug=drug).dose_mg)
                    record["medications"].append(medication.model_dump())
                except ValidationError as e:
                    errors.append(f"{drug}: {e.errors()[0]['msg']}")
            patients.append(record)
        return dspy.Prediction(patients=patients, errors=errors)


class ClinicalNotesByHand(ClinicalNotes):
    async def aforward(self, notes: list[str]):
        async def codes(note):
            diagnoses = (await self.find_diagnoses.acall(note=note)).diagnoses
            coded = await asyncio.gather(*(self.code.acall(diagnosis=d) for d in diagnoses))
            return {d: c.icd10.upper() for d, c in zip(diagnoses, coded) if c.certain}

        async def doses(note):
            drugs = (await self.find_drugs.acall(note=note)).drugs
            found = await asyncio.gather(*(self.dose.acall(note=note, drug=d) for d in drugs))
            return [(drug, each.dose_mg) for drug, each in zip(drugs, found)]

        coded, dosed = await asyncio.gather(asyncio.gather(*map(codes, notes)), asyncio.gather(*map(doses, notes)))
        patients, errors = [], []
        for each, drugs in zip(coded, dosed):
            record: dict[str, Any] = {"codes": each, "medications": []}
            for drug, dose_mg in drugs:
                try:
                    record["medications"].append(Medication(drug=drug, dose_mg=dose_mg).model_dump())
                except ValidationError as e:
                    errors.append(f"{drug}: {e.errors()[0]['msg']}")
            patients.append(record)
        return dspy.Prediction(patients=patients, errors=errors)


class CatalogEnricher(dspy.Module):
    """Attributes for each product, the brands counted, and a description for the most common ones."""

    def __init__(self, max_brands: int = 3):
        super().__init__()
        self.max_brands = max_brands
        self.attributes = dspy.Predict("title -> brand, color, size, price: float")
        self.describe = dspy.ChainOfThought("brand, products: list[str] -> description")

    def forward(self, titles):
        by_brand = defaultdict(list)
        counts = Counter()
        table = []
        for sku, title in zip(range(1000, 1000 + len(titles)), titles):
            attributes = self.attributes(title=title)
            brand = re.sub(r"[^a-z]+", "-", attributes.brand.lower()).strip("-")
            by_brand[brand].append(title)
            counts[brand] += 1
            table.append({"sku": sku, "brand": brand, "price": f"{attributes.price:.2f}", **self._flags(attributes)})
        descriptions = {}
        for brand, n in counts.most_common(self.max_brands):
            print(f"{brand}: {n} products")
            descriptions[brand] = self.describe(brand=brand, products=by_brand[brand]).description
        return dspy.Prediction(table=table, descriptions=descriptions)

    @staticmethod
    def _flags(attributes):
        return {name: bool(getattr(attributes, name, None)) for name in ("color", "size", "material")}


class CatalogEnricherByHand(CatalogEnricher):
    async def aforward(self, titles):
        found = await asyncio.gather(*(self.attributes.acall(title=title) for title in titles))
        by_brand = defaultdict(list)
        table = []
        for sku, (title, attributes) in enumerate(zip(titles, found), start=1000):
            brand = re.sub(r"[^a-z]+", "-", attributes.brand.lower()).strip("-")
            by_brand[brand].append(title)
            table.append({"sku": sku, "brand": brand, "price": f"{attributes.price:.2f}", **self._flags(attributes)})
        counts = Counter({brand: len(products) for brand, products in by_brand.items()})
        brands = [brand for brand, _ in counts.most_common(self.max_brands)]
        described = await asyncio.gather(*(self.describe.acall(brand=b, products=by_brand[b]) for b in brands))
        descriptions = {brand: each.description for brand, each in zip(brands, described)}
        return dspy.Prediction(table=table, descriptions=descriptions)


class ActionItem(BaseModel):
    task: str
    owner: Optional[str] = None
    priority: Literal["low", "medium", "high"] = "medium"


class FindActions(dspy.Signature):
    """Find the tasks that were agreed on."""

    segment: str = dspy.InputField()
    attendees: List[str] = dspy.InputField()
    actions: List[ActionItem] = dspy.OutputField()


class MeetingMinutes(dspy.Module):
    SPEAKER = re.compile(r"^([A-Z][a-z]+):", re.MULTILINE)

    def __init__(self):
        super().__init__()
        self.find_actions = dspy.Predict(FindActions)
        self.topic = dspy.Predict("segment -> topic")
        self.write = dspy.ChainOfThought("topics: list[str], actions: list[str], day -> minutes")

    def forward(self, transcript: str, day: date):
        attendees = sorted(set(self.SPEAKER.findall(transcript)))
        segments = [s for s in re.split(r"\n{2,}", transcript) if s.strip()]
        topics, actions = [], []
        for segment in segments:
            topics.append(self.topic(segment=segment).topic)
            found = self.find_actions(segment=segment, attendees=attendees).actions
            for action in found:
                if action.owner is None or action.owner not in attendees:
                    action.owner = "unassigned"
            actions.extend(found)
        minutes = self.write(
            topics=topics,
            actions=[f"[{a.priority.upper()}] {a.task} ({a.owner})" for a in actions],
            day=day.isoformat(),
        )
        minutes.title = f"Minutes of {day:%d %B %Y}"
        minutes.urgent = any(a.priority == "high" for a in actions)
        return minutes


class MeetingMinutesByHand(MeetingMinutes):
    async def aforward(self, transcript: str, day: date):
        attendees = sorted(set(self.SPEAKER.findall(transcript)))
        segments = [s for s in re.split(r"\n{2,}", transcript) if s.strip()]
        topics, found = await asyncio.gather(
            asyncio.gather(*(self.topic.acall(segment=s) for s in segments)),
            asyncio.gather(*(self.find_actions.acall(segment=s, attendees=attendees) for s in segments)),
        )
        actions = [action for each in found for action in each.actions]
        for action in actions:
            if action.owner is None or action.owner not in attendees:
                action.owner = "unassigned"
        minutes = await self.write.acall(
            topics=[each.topic for each in topics],
            actions=[f"[{a.priority.upper()}] {a.task} ({a.owner})" for a in actions],
            day=day.isoformat(),
        )
        minutes.title = f"Minutes of {day:%d %B %Y}"
        minutes.urgent = any(a.priority == "high" for a in actions)
        return minutes


REPORT = " ".join(f"In {1990 + n} the plant of Lund made {n * 37} t of steel and sold {n * 31} t." for n in range(9))
CONTRACT = "\n".join(f"{n}. Clause about {n * 7}\nThe buyer pays {n * 100} within {n} days.\n" for n in range(1, 6))
TRANSCRIPT = "\n\n".join(f"Ada: Who takes ticket {n}?\nGrace: I do, by day {n}." for n in range(4))

PROGRAMS = [
    Program(
        "facts of a report",
        "chunks, logger, JSON in a fence",
        FactExtractor,
        FactExtractorByHand,
        {"text": REPORT},
        6,
        2,
        {"facts_json": '```json\n[{"name": "output", "value": 37}, {"name": "sales", "value": 31}]\n```'},
    ),
    Program(
        "resume parser",
        "Pydantic with validators, attributes of self",
        ResumeParser,
        ResumeParserByHand,
        {"resume_text": "Ada Lovelace. Analyst at Babbage & Co, 1842 to 1843. Knows Bernoulli numbers."},
        4,
        2,
    ),
    Program(
        "contract review",
        "compiled pattern, dataclass, undecided branch",
        ContractReviewer,
        ContractReviewerByHand,
        {"contract": CONTRACT},
        13,
        3,
    ),
    Program(
        "clinical notes",
        "continue, ValidationError caught",
        ClinicalNotes,
        ClinicalNotesByHand,
        {"notes": [f"Patient {n} has a cough, takes aspirin." for n in range(3)]},
        18,
        2,
    ),
    Program(
        "product catalogue",
        "defaultdict, Counter, re.sub, print",
        CatalogEnricher,
        CatalogEnricherByHand,
        {"titles": [f"Mug {n}, blue, 0.3 l" for n in range(6)]},
        9,
        2,
    ),
    Program(
        "meeting minutes",
        "findall, split, attributes set on a prediction",
        MeetingMinutes,
        MeetingMinutesByHand,
        {"transcript": TRANSCRIPT, "day": date(2025, 3, 14)},
        9,
        2,
    ),
]

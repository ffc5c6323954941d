"""Programs that grade, compare and vote."""

from __future__ import annotations

import ast
import asyncio
import logging
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import dspy
from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger(__name__)


RUBRIC = {
    "accuracy": {"weight": 0.5, "description": "Are the facts right?"},
    "clarity": {"weight": 0.3, "description": "Is it easy to read?"},
    "tone": {"weight": 0.2, "description": "Is it polite?"},
}


class RubricGrader(dspy.Module):
    """Each criterion is judged, the scores are clamped and weighted, the time is logged."""

    def __init__(self, rubric=None):
        super().__init__()
        self.rubric = rubric or RUBRIC
        self.judge = dspy.ChainOfThought("criterion, description, answer -> score: float, justification")
        self.feedback = dspy.Predict("answer, justifications: list[str], total: float -> feedback")

    def forward(self, answer: str):
        start = time.time()
        total = 0.0
        scores = {}
        justifications = []
        for name, spec in self.rubric.items():
            judged = self.judge(criterion=name, description=spec["description"], answer=answer)
            score = max(0.0, min(1.0, float(judged.score)))
            scores[name] = score
            total += spec["weight"] * score
            justifications.append(f"{name} ({score:.2f}): {judged.justification}")
            logger.info("%s graded %.2f", name, score)
        feedback = self.feedback(answer=answer, justifications=justifications, total=round(total, 3)).feedback
        elapsed = time.time() - start
        if elapsed > 3600:
            logger.warning("Grading took %.1fs", elapsed)
        return dspy.Prediction(scores=scores, total=total, passed=total >= 0.5, feedback=feedback)


class RubricGraderByHand(RubricGrader):
    async def aforward(self, answer: str):
        judged = await asyncio.gather(
            *(
                self.judge.acall(criterion=name, description=spec["description"], answer=answer)
                for name, spec in self.rubric.items()
            )
        )
        scores = {name: max(0.0, min(1.0, float(each.score))) for name, each in zip(self.rubric, judged)}
        total = 0.0
        for name, score in scores.items():
            total += self.rubric[name]["weight"] * score
        justifications = [
            f"{name} ({score:.2f}): {each.justification}" for (name, score), each in zip(scores.items(), judged)
        ]
        found = await self.feedback.acall(answer=answer, justifications=justifications, total=round(total, 3))
        return dspy.Prediction(scores=scores, total=total, passed=total >= 0.5, feedback=found.feedback)


class Verdict(str, Enum):
    A = "A"
    B = "B"
    TIE = "tie"


class Compare(dspy.Signature):
    """Which response is better?"""

    prompt: str = dspy.InputField()
    response_a: str = dspy.InputField()
    response_b: str = dspy.InputField()
    verdict: Verdict = dspy.OutputField()


class PairwiseTournament(dspy.Module):
    """Every pair is compared in both orders, as judges prefer what comes first."""

    def __init__(self):
        super().__init__()
        self.compare = dspy.ChainOfThought(Compare)
        self.wins: dict[str, float] = {}

    def play(self, prompt: str, first: str, second: str) -> float:
        forth = self.compare(prompt=prompt, response_a=first, response_b=second).verdict
        back = self.compare(prompt=prompt, response_a=second, response_b=first).verdict
        if forth == Verdict.A and back == Verdict.B:
            return 1.0
        if forth == Verdict.B and back == Verdict.A:
            return 0.0
        return 0.5

    def forward(self, prompt: str, responses: dict[str, str]):
        self.wins = dict.fromkeys(responses, 0.0)
        names = list(responses)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                outcome = self.play(prompt, responses[first], responses[second])
                self.wins[first] += outcome
                self.wins[second] += 1 - outcome
        ranking = sorted(self.wins, key=self.wins.get, reverse=True)
        return dspy.Prediction(winner=ranking[0], ranking=ranking, wins=dict(self.wins))


class PairwiseTournamentByHand(PairwiseTournament):
    async def aplay(self, prompt: str, first: str, second: str) -> float:
        forth, back = await asyncio.gather(
            self.compare.acall(prompt=prompt, response_a=first, response_b=second),
            self.compare.acall(prompt=prompt, response_a=second, response_b=first),
        )
        if forth.verdict == Verdict.A and back.verdict == Verdict.B:
            return 1.0
        if forth.verdict == Verdict.B and back.verdict == Verdict.A:
            return 0.0
        return 0.5

    async def aforward(self, prompt: str, responses: dict[str, str]):
        self.wins = dict.fromkeys(responses, 0.0)
        names = list(responses)
        pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
        outcomes = await asyncio.gather(*(self.aplay(prompt, responses[a], responses[b]) for a, b in pairs))
        for (first, second), outcome in zip(pairs, outcomes):
            self.wins[first] += outcome
            self.wins[second] += 1 - outcome
        ranking = sorted(self.wins, key=self.wins.get, reverse=True)
        return dspy.Prediction(winner=ranking[0], ranking=ranking, wins=dict(self.wins))


class CodeGrader(dspy.Module):
    """Submissions that do not parse get no LM; the others are graded in two respects and commented on."""

    def __init__(self):
        super().__init__()
        self.correctness = dspy.ChainOfThought("task, code -> score: float, bugs: list[str]")
        self.style = dspy.Predict("code -> score: float")
        self.comment = dspy.Predict("code, bugs: list[str], score: float -> comment")

    def forward(self, task, submissions):
        grades = []
        for student, code in submissions.items():
            try:
                tree = ast.parse(code)
            except SyntaxError as e:
                grades.append({"student": student, "score": 0.0, "comment": f"line {e.lineno}: {e.msg}"})
                continue
            functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            if not functions:
                grades.append({"student": student, "score": 0.0, "comment": "no function"})
                continue
            correctness = self.correctness(task=task, code=code)
            style = self.style(code=code)
            score = round(0.8 * correctness.score + 0.2 * style.score, 2)
            comment = self.comment(code=code, bugs=correctness.bugs[:3], score=score).comment
            grades.append({"student": student, "score": score, "comment": comment})
        mean = statistics.mean(grade["score"] for grade in grades)
        print(f"graded {len(grades)} submissions, mean {mean:.2f}")
        return dspy.Prediction(grades=grades, mean=mean)


class CodeGraderByHand(CodeGrader):
    async def aforward(self, task, submissions):
        async def grade(student, code):
            try:
                tree = ast.parse(code)
            except SyntaxError as e:
                return {"student": student, "score": 0.0, "comment": f"line {e.lineno}: {e.msg}"}
            if not any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)):
                return {"student": student, "score": 0.0, "comment": "no function"}
            correctness, style = await asyncio.gather(
                self.correctness.acall(task=task, code=code), self.style.acall(code=code)
            )
            score = round(0.8 * correctness.score + 0.2 * style.score, 2)
            comment = (await self.comment.acall(code=code, bugs=correctness.bugs[:3], score=score)).comment
            return {"student": student, "score": score, "comment": comment}

        grades = await asyncio.gather(*(grade(*each) for each in submissions.items()))
        return dspy.Prediction(grades=grades, mean=statistics.mean(grade["score"] for grade in grades))


class Vote(BaseModel):
    model_config = ConfigDict(frozen=True)

    label: Literal["spam", "ham", "unsure"]
    confidence: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _unsure_if_low(self):
        if self.confidence < 0.05 and self.label != "unsure":
            raise ValueError("low confidence")
        return self


class Panel(dspy.Module):
    """Three personas vote, each with a temperature of its own; a tie is broken by a fourth."""

    PERSONAS = ("a strict moderator", "a marketing expert", "an average user")

    def __init__(self):
        super().__init__()
        self.vote = dspy.Predict("persona, message -> label: Literal['spam', 'ham', 'unsure'], confidence: float")
        self.arbiter = dspy.ChainOfThought("message, votes: list[str] -> label: Literal['spam', 'ham']")

    def forward(self, messages: list[str]):
        labels = {}
        tally = Counter()
        for message in messages:
            votes = []
            for i, persona in enumerate(self.PERSONAS):
                raw = self.vote(persona=persona, message=message, config={"temperature": 0.5 + i / 10})
                try:
                    votes.append(Vote(label=raw.label, confidence=raw.confidence))
                except ValueError as e:
                    logger.debug(f"vote of {persona} dropped: {e}")
            counts = Counter(vote.label for vote in votes if vote.label != "unsure")
            if len(counts) == 1:
                label = next(iter(counts))
            else:
                label = self.arbiter(message=message, votes=[f"{v.label} {v.confidence:.1f}" for v in votes]).label
            labels[message] = label
            tally[label] += 1
        return dspy.Prediction(labels=labels, spam_rate=tally["spam"] / len(messages))


class PanelByHand(Panel):
    async def aforward(self, messages: list[str]):
        async def label(message):
            raws = await asyncio.gather(
                *(
                    self.vote.acall(persona=persona, message=message, config={"temperature": 0.5 + i / 10})
                    for i, persona in enumerate(self.PERSONAS)
                )
            )
            votes = []
            for raw in raws:
                try:
                    votes.append(Vote(label=raw.label, confidence=raw.confidence))
                except ValueError:
                    pass
            counts = Counter(vote.label for vote in votes if vote.label != "unsure")
            if len(counts) == 1:
                return next(iter(counts))
            shown = [f"{v.label} {v.confidence:.1f}" for v in votes]
            return (await self.arbiter.acall(message=message, votes=shown)).label

        labels = dict(zip(messages, await asyncio.gather(*map(label, messages))))
        return dspy.Prediction(labels=labels, spam_rate=list(labels.values()).count("spam") / len(messages))


@dataclass
class EssayReport:
    title: str
    grammar: float = 0.0
    argument: float = 0.0
    comments: list[str] = field(default_factory=list)

    @property
    def grade(self) -> str:
        mean = (self.grammar + self.argument) / 2
        return "A" if mean > 0.66 else "B" if mean > 0.33 else "C"


class EssayFeedback(dspy.Module):
    def __init__(self):
        super().__init__()
        self.grammar = dspy.Predict("essay -> score: float, mistakes: list[str]")
        self.argument = dspy.ChainOfThought("essay -> score: float, weakest_point")
        self.advise = dspy.Predict("grade, mistakes: list[str], weakest_point -> advice")
        self.lock = threading.Lock()
        self.reports: list[EssayReport] = []

    def forward(self, essays: dict[str, str]):
        for title, essay in essays.items():
            report = EssayReport(title)
            grammar = self.grammar(essay=essay)
            argument = self.argument(essay=essay)
            report.grammar, report.argument = grammar.score, argument.score
            report.comments += [f"- {mistake}" for mistake in grammar.mistakes]
            advice = self.advise(
                grade=report.grade, mistakes=grammar.mistakes, weakest_point=argument.weakest_point
            ).advice
            report.comments.append(advice)
            with self.lock:
                self.reports.append(report)
        best = max(self.reports, key=lambda r: (r.grammar + r.argument, r.title))
        return dspy.Prediction(grades={r.title: r.grade for r in self.reports}, best=best.title, reports=self.reports)


class EssayFeedbackByHand(EssayFeedback):
    async def aforward(self, essays: dict[str, str]):
        async def read(title, essay):
            grammar, argument = await asyncio.gather(self.grammar.acall(essay=essay), self.argument.acall(essay=essay))
            report = EssayReport(title, grammar.score, argument.score, [f"- {m}" for m in grammar.mistakes])
            advised = await self.advise.acall(
                grade=report.grade, mistakes=grammar.mistakes, weakest_point=argument.weakest_point
            )
            report.comments.append(advised.advice)
            return report

        self.reports += await asyncio.gather(*(read(*each) for each in essays.items()))
        best = max(self.reports, key=lambda r: (r.grammar + r.argument, r.title))
        return dspy.Prediction(grades={r.title: r.grade for r in self.reports}, best=best.title, reports=self.reports)


class Assess(dspy.Signature):
    """Assess the quality of a text along the specified dimension."""

    assessed_text = dspy.InputField()
    assessment_question = dspy.InputField()
    assessment_answer: bool = dspy.OutputField()


class TweetMetric(dspy.Module):
    """DSPy's tutorial on metrics, as a module."""

    def forward(self, question: str, answer: str, tweet: str) -> Any:
        engaging = "Does the assessed text make for a self-contained, engaging tweet?"
        correct = f"The text should answer `{question}` with `{answer}`. Does the assessed text contain this answer?"
        correct = dspy.Predict(Assess)(assessed_text=tweet, assessment_question=correct)
        engaging = dspy.Predict(Assess)(assessed_text=tweet, assessment_question=engaging)
        correct, engaging = [m.assessment_answer for m in [correct, engaging]]
        score = (correct + engaging) if correct and (len(tweet) <= 280) else 0
        return dspy.Prediction(score=score / 2.0)


class TweetMetricByHand(TweetMetric):
    async def aforward(self, question: str, answer: str, tweet: str) -> Any:
        engaging = "Does the assessed text make for a self-contained, engaging tweet?"
        correct = f"The text should answer `{question}` with `{answer}`. Does the assessed text contain this answer?"
        found = await asyncio.gather(
            dspy.Predict(Assess).acall(assessed_text=tweet, assessment_question=correct),
            dspy.Predict(Assess).acall(assessed_text=tweet, assessment_question=engaging),
        )
        correct, engaging = [m.assessment_answer for m in found]
        score = (correct + engaging) if correct and (len(tweet) <= 280) else 0
        return dspy.Prediction(score=score / 2.0)


SUBMISSIONS = {
    "ada": "def mean(xs):\n    return sum(xs) / len(xs)",
    "bob": "def mean(xs) return",
    "cyd": "def mean(xs):\n    total = 0\n    for x in xs: total += x\n    return total / len(xs)",
    "dan": "print(3)",
    "eve": "mean = lambda xs: 0\ndef f(xs): return mean(xs)",
}

PROGRAMS = [
    Program(
        "rubric",
        "clamped scores, time.time(), logger",
        RubricGrader,
        RubricGraderByHand,
        {"answer": "The tide is high at noon."},
        4,
        2,
    ),
    Program(
        "tournament",
        "an attribute written item by item, Enum, early returns",
        PairwiseTournament,
        PairwiseTournamentByHand,
        {
            "prompt": "Explain the tides.",
            "responses": {n: f"Response {n} about the moon." for n in ("gpt", "llama", "qwen")},
        },
        6,
        1,
    ),
    Program(
        "code grader",
        "SyntaxError caught, continue, statistics",
        CodeGrader,
        CodeGraderByHand,
        {"task": "Write mean().", "submissions": SUBMISSIONS},
        9,
        2,
    ),
    Program(
        "panel",
        "ValueError of a model caught, config, Counter",
        Panel,
        PanelByHand,
        {"messages": [f"Win {n} prizes now" for n in range(4)]},
        14,
        2,
    ),
    Program(
        "essay feedback",
        "a lock, dataclass with a property",
        EssayFeedback,
        EssayFeedbackByHand,
        {"essays": {f"Essay {n}": f"Ships are {n} times older than wheels." for n in range(4)}},
        12,
        2,
    ),
    Program(
        "metric",
        "predictors made in forward()",
        TweetMetric,
        TweetMetricByHand,
        {"question": "Who wrote it?", "answer": "Ada", "tweet": "Ada wrote it! #notes"},
        2,
        1,
    ),
]

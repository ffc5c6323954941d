"""Programs with an agent in the middle."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, Literal, Optional

import dspy
from pydantic import BaseModel

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger("agents")

PRICES = {"tide clock": 49.0, "gauge": 120.0, "barometer": 80.0}
ORDERS = {"1001": {"item": "gauge", "status": "shipped"}, "1002": {"item": "tide clock", "status": "open"}}


def get_price(item: str) -> str:
    """Price of an item in EUR."""
    price = PRICES.get(item.lower())
    return f"{price:.2f} EUR" if price is not None else f"no such item: {item}"


def get_order(order_id: str) -> str:
    """Status of an order."""
    order = ORDERS.get(order_id)
    return f"{order['item']} is {order['status']}" if order else "unknown order"


class SupportPipeline(dspy.Module):
    """Sentiment, language and an agent's answer; then a reply in the right tone."""

    def __init__(self):
        super().__init__()
        self.sentiment = dspy.Predict("message -> sentiment: Literal['angry', 'neutral', 'happy']")
        self.language = dspy.Predict("message -> language")
        self.agent = dspy.ReAct("message -> answer", tools=[get_price, get_order], max_iters=3)
        self.reply = dspy.ChainOfThought("message, answer, sentiment, language -> reply")
        self.check = dspy.Predict("message -> is_spam: bool")

    def forward(self, message: str) -> dspy.Prediction:
        logger.info("message of %d characters", len(message))
        is_spam = self.check(message=message).is_spam
        sentiment = self.sentiment(message=message).sentiment
        answer = self.agent(message=message).answer
        language = self.language(message=message).language
        reply = self.reply(message=message, answer=answer, sentiment=sentiment, language=language).reply
        return dspy.Prediction(reply=reply, sentiment=sentiment, is_spam=is_spam)


class SupportPipelineByHand(SupportPipeline):
    async def aforward(self, message: str) -> dspy.Prediction:
        check, sentiment, answer, language = await asyncio.gather(
            self.check.acall(message=message),
            self.sentiment.acall(message=message),
            self.agent.acall(message=message),
            self.language.acall(message=message),
        )
        replied = await self.reply.acall(
            message=message, answer=answer.answer, sentiment=sentiment.sentiment, language=language.language
        )
        return dspy.Prediction(reply=replied.reply, sentiment=sentiment.sentiment, is_spam=check.is_spam)


class Escalation(dspy.Module):
    def __init__(self, threshold: float = 0.6):
        super().__init__()
        self.threshold = threshold
        self.escalated = 0
        self.quick = dspy.Predict("question -> answer, confidence: float")
        self.agent = dspy.ReAct("question -> answer", tools=[get_price], max_iters=2)
        self.polish = dspy.Predict("question, answer -> polished")

    def forward(self, questions: list[str]):
        answers = {}
        for question in questions:
            quick = self.quick(question=question)
            answer = quick.answer
            if quick.confidence < self.threshold:
                self.escalated += 1
                logger.info("escalating %r (%.2f)", question, quick.confidence)
                answer = self.agent(question=question).answer
            answers[question] = self.polish(question=question, answer=answer).polished
        return dspy.Prediction(answers=answers, escalated=self.escalated)


class EscalationByHand(Escalation):
    async def aforward(self, questions: list[str]):
        async def answered(question):
            quick = await self.quick.acall(question=question)
            answer = quick.answer
            if quick.confidence < self.threshold:
                self.escalated += 1
                answer = (await self.agent.acall(question=question)).answer
            return (await self.polish.acall(question=question, answer=answer)).polished

        answers = dict(zip(questions, await asyncio.gather(*map(answered, questions))))
        return dspy.Prediction(answers=answers, escalated=self.escalated)


class Finding(BaseModel):
    topic: str
    text: str
    source: Optional[str] = None


class TwoResearchers(dspy.Module):
    """An agent for each topic, made in `__init__`, and a synthesis; what fails is noted."""

    def __init__(self, topics=("prices", "orders")):
        super().__init__()
        self.topics = topics
        self.agents = {
            topic: dspy.ReAct("question, topic -> finding", tools=[get_price, get_order], max_iters=2)
            for topic in topics
        }
        self.synthesize = dspy.ChainOfThought("question, findings: list[str] -> report")
        self.title = dspy.Predict("question -> title")

    def forward(self, question: str):
        run_id = str(uuid.uuid4())
        logger.debug("run %s", run_id)
        findings: list[Finding] = []
        for topic, agent in self.agents.items():
            try:
                result = agent(question=question, topic=topic)
                findings.append(Finding(topic=topic, text=result.finding, source=f"agent:{topic}"))
            except Exception as e:
                logger.exception("agent %s failed", topic)
                findings.append(Finding(topic=topic, text=f"failed: {e}"))
        report = self.synthesize(question=question, findings=[f.text for f in findings]).report
        title = self.title(question=question).title
        return dspy.Prediction(title=title, report=report, findings=[f.model_dump() for f in findings])


class TwoResearchersByHand(TwoResearchers):
    async def aforward(self, question: str):
        async def find(topic, agent):
            try:
                result = await agent.acall(question=question, topic=topic)
                return Finding(topic=topic, text=result.finding, source=f"agent:{topic}")
            except Exception as e:
                return Finding(topic=topic, text=f"failed: {e}")

        title, *findings = await asyncio.gather(
            self.title.acall(question=question), *(find(*each) for each in self.agents.items())
        )
        report = (await self.synthesize.acall(question=question, findings=[f.text for f in findings])).report
        return dspy.Prediction(title=title.title, report=report, findings=[f.model_dump() for f in findings])


class Memory:
    """What an assistant knows of its user."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.log: list[str] = []

    def remember(self, key: str, value: str) -> None:
        self.facts[key] = value
        self.log.append(f"{key}={value}")

    def recall(self, text: str) -> list[str]:
        return [f"{key}: {value}" for key, value in self.facts.items() if key in text.lower()]


class Route(dspy.Signature):
    """Who should take the next turn?"""

    message: str = dspy.InputField()
    agent: Literal["sales", "support"] = dspy.OutputField()
    fact_key: str = dspy.OutputField()


class AssistantWithMemory(dspy.Module):
    """Messages are answered in turn by experts; what is learned from one is there for the next ones."""

    def __init__(self):
        super().__init__()
        self.route = dspy.Predict(Route)
        self.sales = dspy.ChainOfThought("message, known: list[str] -> answer")
        self.support = dspy.ChainOfThought("message, known: list[str] -> answer")
        self.learn = dspy.Predict("message -> fact")
        self.memory = Memory()

    def forward(self, messages: list[str]):
        answers = []
        for message in messages:
            route = self.route(message=message)
            fact = self.learn(message=message).fact
            if fact and fact.strip():
                self.memory.remember(route.fact_key[:8], fact.strip())
            known = self.memory.recall(message)
            expert = getattr(self, route.agent)
            answers.append({"agent": route.agent, "answer": expert(message=message, known=known).answer})
        return dspy.Prediction(answers=answers, facts=dict(self.memory.facts))


class AssistantWithMemoryByHand(AssistantWithMemory):
    async def aforward(self, messages: list[str]):
        routes, facts = await asyncio.gather(
            asyncio.gather(*(self.route.acall(message=m) for m in messages)),
            asyncio.gather(*(self.learn.acall(message=m) for m in messages)),
        )
        calls = []
        for message, route, learned in zip(messages, routes, facts):
            if learned.fact and learned.fact.strip():
                self.memory.remember(route.fact_key[:8], learned.fact.strip())
            calls.append(getattr(self, route.agent).acall(message=message, known=self.memory.recall(message)))
        answers = [
            {"agent": route.agent, "answer": each.answer} for route, each in zip(routes, await asyncio.gather(*calls))
        ]
        return dspy.Prediction(answers=answers, facts=dict(self.memory.facts))


class Debater(dspy.Module):
    def __init__(self, stance: str):
        super().__init__()
        self.stance = stance
        self.history_of_points: list[str] = []
        self.argue = dspy.ChainOfThought("question, stance, opponent: list[str] -> point")

    def forward(self, question: str, opponent: list[str]):
        prediction = self.argue(question=question, stance=self.stance, opponent=opponent)
        prediction.point = prediction.point.strip()
        self.history_of_points.append(prediction.point)
        return prediction


class Debate(dspy.Module):
    """Two debaters who keep what they said, and a judge of each round."""

    def __init__(self, rounds: int = 2):
        super().__init__()
        self.rounds = rounds
        self.pro = Debater("for")
        self.con = Debater("against")
        self.judge = dspy.Predict("question, pro, con -> pro_score: float, con_score: float")
        self.scores: dict[str, Any] = {"pro": 0.0, "con": 0.0}

    def forward(self, question: str):
        pro_points: list[str] = []
        con_points: list[str] = []
        for round_number in range(self.rounds):
            pro = self.pro(question=question, opponent=list(con_points))
            con = self.con(question=question, opponent=list(pro_points))
            pro_points.append(pro.point)
            con_points.append(con.point)
            judged = self.judge(question=question, pro=pro.point, con=con.point)
            self.scores["pro"] += judged.pro_score
            self.scores["con"] += judged.con_score
            logger.info("round %d: %s", round_number + 1, {k: round(v, 2) for k, v in self.scores.items()})
        winner = "pro" if self.scores["pro"] > self.scores["con"] else "con"
        return dspy.Prediction(winner=winner, points=[*zip(pro_points, con_points)])


class DebateByHand(Debate):
    async def aforward(self, question: str):
        rounds, judging = [], []
        for _ in range(self.rounds):
            pro, con = await asyncio.gather(
                self.pro.argue.acall(question=question, stance="for", opponent=[c for _, c in rounds]),
                self.con.argue.acall(question=question, stance="against", opponent=[p for p, _ in rounds]),
            )
            rounds.append((pro.point.strip(), con.point.strip()))
            self.pro.history_of_points.append(rounds[-1][0])
            self.con.history_of_points.append(rounds[-1][1])
            judging.append(
                asyncio.ensure_future(self.judge.acall(question=question, pro=rounds[-1][0], con=rounds[-1][1]))
            )
        for judged in await asyncio.gather(*judging):
            self.scores["pro"] += judged.pro_score
            self.scores["con"] += judged.con_score
        winner = "pro" if self.scores["pro"] > self.scores["con"] else "con"
        return dspy.Prediction(winner=winner, points=rounds)


MESSAGES = [
    "My tide clock is late.",
    "Do you sell gauges?",
    "My name is Ada and I live in Hull.",
    "Where is order 1001?",
]

PROGRAMS = [
    Program(
        "support with an agent",
        "dspy.ReAct between calls that don't need it",
        SupportPipeline,
        SupportPipelineByHand,
        {"message": MESSAGES[3]},
        7,
        4,
    ),
    Program(
        "escalation",
        "an agent in an undecided branch, a counter",
        Escalation,
        EscalationByHand,
        {"questions": MESSAGES[:3]},
        9,
        5,
    ),
    Program(
        "two researchers",
        "agents in a dict, uuid4, except Exception",
        TwoResearchers,
        TwoResearchersByHand,
        {"question": MESSAGES[3]},
        8,
        4,
    ),
    Program(
        "assistant with memory",
        "an object with a state, getattr",
        AssistantWithMemory,
        AssistantWithMemoryByHand,
        {"messages": MESSAGES},
        12,
        2,
    ),
    Program(
        "debate with a state",
        "submodules that write attributes",
        Debate,
        DebateByHand,
        {"question": "Are tide clocks useful?"},
        6,
        3,
    ),
]

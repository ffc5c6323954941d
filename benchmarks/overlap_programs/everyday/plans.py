"""Programs that plan first."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import Any, Callable, Literal

import dspy
from pydantic import BaseModel, Field

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]

logger = logging.getLogger("planner")


class Step(BaseModel):
    name: str
    instruction: str
    needs: list[str] = Field(default_factory=list)


class PlanExecutor(dspy.Module):
    """Executes a plan's steps in order; each gets the results of the steps it needs."""

    def __init__(self, verbose: bool = True):
        super().__init__()
        self.verbose = verbose
        self.execute = dspy.ChainOfThought("goal, instruction, given: dict[str, str] -> result")
        self.report = dspy.Predict("goal, results: dict[str, str] -> report")
        self.results: dict[str, str] = {}

    def forward(self, goal: str, plan: list[Step]):
        self.results = {}
        for index, step in enumerate(plan, start=1):
            if self.verbose:
                print(f"[{index}/{len(plan)}] {step.name}")
            missing = [name for name in step.needs if name not in self.results]
            if missing:
                raise KeyError(f"{step.name} needs {', '.join(missing)}")
            given = {name: self.results[name] for name in step.needs}
            self.results[step.name] = self.execute(goal=goal, instruction=step.instruction, given=given).result
        report = self.report(goal=goal, results=self.results).report
        return dspy.Prediction(report=report, results=dict(self.results))


class PlanExecutorByHand(PlanExecutor):
    async def aforward(self, goal: str, plan: list[Step]):
        tasks: dict[str, Any] = {}

        async def run(step):
            given = {name: await tasks[name] for name in step.needs}
            return (await self.execute.acall(goal=goal, instruction=step.instruction, given=given)).result

        for step in plan:
            tasks[step.name] = asyncio.ensure_future(run(step))
        self.results = {name: await task for name, task in tasks.items()}
        report = (await self.report.acall(goal=goal, results=self.results)).report
        return dspy.Prediction(report=report, results=dict(self.results))


class TravelPlanner(dspy.Module):
    def __init__(self, max_days: int = 3):
        super().__init__()
        self.max_days = max_days
        self.preferences = dspy.ChainOfThought("request -> city, interests: list[str], days: int")
        self.day_plan = dspy.Predict("city, day: int, interests: list[str] -> plan, cost: float")
        self.hotel = dspy.Predict("city -> hotel, price: float")
        self.weather = dspy.Predict("city -> advice")
        self.pack = dspy.ChainOfThought("plans: list[str], advice -> packing: list[str]")

    def forward(self, request: str, budget: float = 1000.0):
        with dspy.context(track_usage=True, cache=False):
            prefs = self.preferences(request=request)
        days = max(1, min(prefs.days, self.max_days))
        plans, spent = [], 0.0
        with dspy.context(temperature=0.9, show_guidelines=False):
            for day in range(1, days + 1):
                planned = self.day_plan(city=prefs.city, day=day, interests=prefs.interests)
                plans.append(f"Day {day}: {planned.plan}")
                spent += planned.cost
            hotel = self.hotel(city=prefs.city)
        spent += hotel.price * days
        advice = self.weather(city=prefs.city).advice
        packing = self.pack(plans=plans, advice=advice).packing
        status = "over budget" if spent > budget else "ok"
        return dspy.Prediction(plans=plans, hotel=hotel.hotel, packing=packing, status=status)


class TravelPlannerByHand(TravelPlanner):
    async def aforward(self, request: str, budget: float = 1000.0):
        with dspy.context(track_usage=True, cache=False):
            prefs = await self.preferences.acall(request=request)
        days = max(1, min(prefs.days, self.max_days))
        weather = asyncio.ensure_future(self.weather.acall(city=prefs.city))
        with dspy.context(temperature=0.9, show_guidelines=False):
            hotel_task = asyncio.ensure_future(self.hotel.acall(city=prefs.city))
            planned = await asyncio.gather(
                *(
                    self.day_plan.acall(city=prefs.city, day=day, interests=prefs.interests)
                    for day in range(1, days + 1)
                )
            )
        plans = [f"Day {day}: {each.plan}" for day, each in enumerate(planned, start=1)]
        # Packing needs no hotel.
        packing = (await self.pack.acall(plans=plans, advice=(await weather).advice)).packing
        hotel = await hotel_task
        spent = sum(each.cost for each in planned) + hotel.price * days
        status = "over budget" if spent > budget else "ok"
        return dspy.Prediction(plans=plans, hotel=hotel.hotel, packing=packing, status=status)


class ResearchPlanner(dspy.Module):
    """Sub-questions of two levels, answered by a method that calls itself."""

    def __init__(self, depth: int = 2, width: int = 2):
        super().__init__()
        self.depth = depth
        self.width = width
        self.count = 0
        self.split = dspy.ChainOfThought("question -> sub_questions: list[str]")
        self.answer = dspy.Predict("question -> answer")
        self.merge = dspy.ChainOfThought("question, answers: list[str] -> answer")

    def research(self, question: str, level: int = 0) -> str:
        self.count += 1
        logger.info("%s%s", "  " * level, question)
        if level >= self.depth:
            return self.answer(question=question).answer
        sub_questions = self.split(question=question).sub_questions[: self.width]
        answers = []
        for sub in sub_questions:
            answers.append(f"{sub}: {self.research(sub, level + 1)}")
        return self.merge(question=question, answers=answers).answer

    def forward(self, question: str):
        self.count = 0
        answer = self.research(question)
        return dspy.Prediction(answer=answer, questions=self.count)


class ResearchPlannerByHand(ResearchPlanner):
    async def aresearch(self, question: str, level: int = 0) -> str:
        self.count += 1
        if level >= self.depth:
            return (await self.answer.acall(question=question)).answer
        sub_questions = (await self.split.acall(question=question)).sub_questions[: self.width]
        found = await asyncio.gather(*(self.aresearch(sub, level + 1) for sub in sub_questions))
        answers = [f"{sub}: {each}" for sub, each in zip(sub_questions, found)]
        return (await self.merge.acall(question=question, answers=answers)).answer

    async def aforward(self, question: str):
        self.count = 0
        answer = await self.aresearch(question)
        return dspy.Prediction(answer=answer, questions=self.count)


class Classify(dspy.Signature):
    """What is the ticket about?"""

    ticket: str = dspy.InputField()
    category: Literal["billing", "bug", "feature"] = dspy.OutputField()
    urgency: float = dspy.OutputField()


class TicketRouter(dspy.Module):
    """Classifies tickets and hands each to the method for its category."""

    def __init__(self):
        super().__init__()
        self.classify = dspy.Predict(Classify)
        self.billing = dspy.ChainOfThought("ticket -> reply, refund: float")
        self.reproduce = dspy.Predict("ticket -> steps: list[str]")
        self.diagnose = dspy.ChainOfThought("ticket, steps: list[str] -> reply")
        self.thank = dspy.Predict("ticket -> reply")
        self.handlers: dict[str, Callable[[str], dict]] = {
            "billing": self.handle_billing,
            "bug": self.handle_bug,
        }
        self.total_refund = 0.0

    def handle_billing(self, ticket: str) -> dict:
        result = self.billing(ticket=ticket)
        refund = result.refund if result.refund > 0.5 else 0.0
        self.total_refund += refund
        return {"reply": result.reply, "refund": refund}

    def handle_bug(self, ticket: str) -> dict:
        steps = self.reproduce(ticket=ticket).steps
        return {"reply": self.diagnose(ticket=ticket, steps=steps).reply, "steps": len(steps)}

    def handle_default(self, ticket: str) -> dict:
        return {"reply": self.thank(ticket=ticket).reply}

    def forward(self, tickets: list[str]):
        self.total_refund = 0.0
        replies = []
        for ticket in tickets:
            kind = self.classify(ticket=ticket)
            handler = self.handlers.get(kind.category, self.handle_default)
            outcome = handler(ticket)
            outcome["category"] = kind.category
            outcome["urgent"] = kind.urgency > 0.7
            replies.append(outcome)
        replies.sort(key=lambda r: not r["urgent"])
        return dspy.Prediction(replies=replies, total_refund=round(self.total_refund, 2))


class TicketRouterByHand(TicketRouter):
    async def aforward(self, tickets: list[str]):
        async def handle(ticket):
            kind = await self.classify.acall(ticket=ticket)
            outcome: dict[str, Any]
            if kind.category == "billing":
                result = await self.billing.acall(ticket=ticket)
                outcome = {"reply": result.reply, "refund": result.refund if result.refund > 0.5 else 0.0}
            elif kind.category == "bug":
                steps = (await self.reproduce.acall(ticket=ticket)).steps
                reply = (await self.diagnose.acall(ticket=ticket, steps=steps)).reply
                outcome = {"reply": reply, "steps": len(steps)}
            else:
                outcome = {"reply": (await self.thank.acall(ticket=ticket)).reply}
            return {**outcome, "category": kind.category, "urgent": kind.urgency > 0.7}

        replies = await asyncio.gather(*map(handle, tickets))
        self.total_refund = 0.0
        for reply in replies:
            self.total_refund += reply.get("refund", 0.0)
        replies.sort(key=lambda r: not r["urgent"])
        return dspy.Prediction(replies=replies, total_refund=round(self.total_refund, 2))


SCHEMA = """
CREATE TABLE gauges (id INTEGER PRIMARY KEY, harbour TEXT, height REAL);
CREATE TABLE tides (gauge_id INTEGER, hour INTEGER, level REAL);
INSERT INTO gauges VALUES (1, 'Lund', 2.5), (2, 'Hull', 4.0);
"""


class TextToSQL(dspy.Module):
    """Picks columns per table, writes SQL, tries it in SQLite, repairs it, and explains what it found."""

    def __init__(self, schema: str = SCHEMA, max_attempts: int = 3):
        super().__init__()
        self.schema = schema
        self.max_attempts = max_attempts
        self.pick_columns = dspy.Predict("question, table, ddl -> columns: list[str]")
        self.write_sql = dspy.ChainOfThought("question, columns: dict[str, list[str]], error -> sql, risk: float")
        self.explain = dspy.Predict("question, rows -> answer")
        self.chart = dspy.Predict("question, rows -> chart_type")

    def forward(self, question: str):
        connection = sqlite3.connect(":memory:")
        try:
            connection.executescript(self.schema)
            tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            columns = {}
            for table, ddl in tables.items():
                columns[table] = self.pick_columns(question=question, table=table, ddl=ddl).columns
            error, rows = "", []
            for _ in range(self.max_attempts):
                written = self.write_sql(question=question, columns=columns, error=error)
                try:
                    if written.risk > 0.6:
                        raise ValueError(f"too risky: {written.risk:.2f}")
                    rows = connection.execute(written.sql).fetchall()
                    break
                except (sqlite3.Error, ValueError) as exc:
                    error = str(exc)
        finally:
            connection.close()
        answer = self.explain(question=question, rows=str(rows)).answer
        chart = self.chart(question=question, rows=str(rows)).chart_type
        return dspy.Prediction(answer=answer, chart=chart, rows=rows, error=error)


class TextToSQLByHand(TextToSQL):
    async def aforward(self, question: str):
        connection = sqlite3.connect(":memory:")
        try:
            connection.executescript(self.schema)
            tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            picked = await asyncio.gather(
                *(self.pick_columns.acall(question=question, table=table, ddl=ddl) for table, ddl in tables.items())
            )
            columns = {table: each.columns for table, each in zip(tables, picked)}
            error, rows = "", []
            for _ in range(self.max_attempts):
                written = await self.write_sql.acall(question=question, columns=columns, error=error)
                try:
                    if written.risk > 0.6:
                        raise ValueError(f"too risky: {written.risk:.2f}")
                    rows = connection.execute(written.sql).fetchall()
                    break
                except (sqlite3.Error, ValueError) as exc:
                    error = str(exc)
        finally:
            connection.close()
        answer, chart = await asyncio.gather(
            self.explain.acall(question=question, rows=str(rows)), self.chart.acall(question=question, rows=str(rows))
        )
        return dspy.Prediction(answer=answer.answer, chart=chart.chart_type, rows=rows, error=error)


PLAN = [
    Step(name="market", instruction="Size the market."),
    Step(name="rivals", instruction="List the rivals."),
    Step(name="price", instruction="Propose a price.", needs=["market", "rivals"]),
    Step(name="team", instruction="Who is needed?"),
    Step(name="launch", instruction="Plan the launch.", needs=["price", "team"]),
]

PROGRAMS = [
    Program(
        "plan with needs",
        "an attribute made anew, undecided raise never met, print",
        PlanExecutor,
        PlanExecutorByHand,
        {"goal": "Sell tide clocks", "plan": PLAN},
        6,
        4,
    ),
    Program(
        "travel",
        "dspy.context with other settings",
        TravelPlanner,
        TravelPlannerByHand,
        {"request": "Three days by the sea"},
        7,
        3,
        {"days": 3},
    ),
    Program(
        "research tree",
        "recursion, an attribute counted up",
        ResearchPlanner,
        ResearchPlannerByHand,
        {"question": "Why are there tides?"},
        10,
        5,
    ),
    Program(
        "tickets",
        "bound methods in a dict, an attribute summed up",
        TicketRouter,
        TicketRouterByHand,
        {"tickets": [f"Ticket {n}: it does not work" for n in range(5)]},
        12,
        3,
    ),
    Program(
        "text to SQL",
        "sqlite3, try/finally, raise in try",
        TextToSQL,
        TextToSQLByHand,
        {"question": "Which gauge is highest?"},
        5,
        3,
        {"sql": "SELECT harbour, max(height) FROM gauges"},
    ),
]

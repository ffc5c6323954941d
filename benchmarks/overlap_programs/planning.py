"""Programs that plan, and programs that check and correct themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pydantic

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]


class Step(pydantic.BaseModel):
    """One step of a plan, and the numbers of the steps whose results it needs."""

    task: str
    needs: list[int] = []


class MakePlan(dspy.Signature):
    """Split a goal into steps."""

    goal: str = dspy.InputField()
    steps: list[Step] = dspy.OutputField()


class PlanAndExecute(dspy.Module):
    """A plan with dependencies, its steps in order, a summary of all results."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought(MakePlan)
        self.execute = dspy.Predict("task, known: list[str] -> result")
        self.summarize = dspy.Predict("goal, results: list[str] -> summary")

    def forward(self, goal: str) -> Any:
        steps = self.plan(goal=goal).steps
        results: dict[int, str] = {}
        for number, step in enumerate(steps):
            known = [results[needed] for needed in step.needs]
            results[number] = self.execute(task=step.task, known=known).result
        summary = self.summarize(goal=goal, results=list(results.values())).summary
        return dspy.Prediction(results=results, summary=summary)


class PlanAndExecuteByHand(PlanAndExecute):
    async def aforward(self, goal: str) -> Any:
        steps = (await self.plan.acall(goal=goal)).steps
        tasks: dict[int, asyncio.Task[str]] = {}

        async def executed(step: Step) -> str:
            known = [await tasks[needed] for needed in step.needs]
            return (await self.execute.acall(task=step.task, known=known)).result

        for number, step in enumerate(steps):
            tasks[number] = asyncio.create_task(executed(step))
        results = {number: await task for number, task in tasks.items()}
        summary = (await self.summarize.acall(goal=goal, results=list(results.values()))).summary
        return dspy.Prediction(results=results, summary=summary)


class LeastToMost(dspy.Module):
    """Each sub-question is answered with all answers before it: nothing to gain."""

    def __init__(self) -> None:
        super().__init__()
        self.decompose = dspy.Predict("question -> subquestions: list[str]")
        self.answer = dspy.Predict("subquestion, known: list[str] -> answer")

    def forward(self, question: str) -> Any:
        known: list[str] = []
        for subquestion in [*self.decompose(question=question).subquestions, question]:
            answer = self.answer(subquestion=subquestion, known=known).answer
            known.append(f"{subquestion} {answer}")
        return dspy.Prediction(answer=answer, known=known)


class LeastToMostByHand(LeastToMost):
    async def aforward(self, question: str) -> Any:
        known: list[str] = []
        for subquestion in [*(await self.decompose.acall(question=question)).subquestions, question]:
            answer = (await self.answer.acall(subquestion=subquestion, known=known)).answer
            known.append(f"{subquestion} {answer}")
        return dspy.Prediction(answer=answer, known=known)


class Reflexion(dspy.Module):
    """Attempt, evaluate, reflect, until it passes: nothing to gain."""

    def __init__(self, trials: int = 4) -> None:
        super().__init__()
        self.trials = trials
        self.attempt = dspy.ChainOfThought("task, lessons: list[str] -> attempt")
        self.evaluate = dspy.Predict("task, attempt -> grade: int")
        self.reflect = dspy.Predict("task, attempt, grade: int -> lesson")

    def forward(self, task: str) -> Any:
        lessons: list[str] = []
        trial = 0
        while True:
            attempt = self.attempt(task=task, lessons=lessons).attempt
            grade = self.evaluate(task=task, attempt=attempt).grade
            trial += 1
            if grade >= 9 or trial == self.trials:
                break
            lessons.append(self.reflect(task=task, attempt=attempt, grade=grade).lesson)
        return dspy.Prediction(attempt=attempt, grade=grade, trials=trial)


class ReflexionByHand(Reflexion):
    async def aforward(self, task: str) -> Any:
        lessons: list[str] = []
        for trial in range(1, self.trials + 1):
            attempt = (await self.attempt.acall(task=task, lessons=lessons)).attempt
            grade = (await self.evaluate.acall(task=task, attempt=attempt)).grade
            if grade >= 9 or trial == self.trials:
                break
            lessons.append((await self.reflect.acall(task=task, attempt=attempt, grade=grade)).lesson)
        return dspy.Prediction(attempt=attempt, grade=grade, trials=trial)


class ChainOfVerification(dspy.Module):
    """A first answer, questions that would expose its mistakes, answers to those, a better answer."""

    def __init__(self) -> None:
        super().__init__()
        self.baseline = dspy.Predict("question -> answer")
        self.plan = dspy.Predict("question, answer -> checks: list[str]")
        self.check = dspy.Predict("question -> finding")
        self.revise = dspy.ChainOfThought("question, answer, findings: list[str] -> revised")

    def forward(self, question: str) -> Any:
        answer = self.baseline(question=question).answer
        checks = self.plan(question=question, answer=answer).checks
        findings = list(map(lambda check: f"{check} {self.check(question=check).finding}", checks))
        revised = self.revise(question=question, answer=answer, findings=findings).revised
        return dspy.Prediction(answer=revised, findings=findings)


class ChainOfVerificationByHand(ChainOfVerification):
    async def aforward(self, question: str) -> Any:
        answer = (await self.baseline.acall(question=question)).answer
        checks = (await self.plan.acall(question=question, answer=answer)).checks
        found = await asyncio.gather(*(self.check.acall(question=check) for check in checks))
        findings = [f"{check} {each.finding}" for check, each in zip(checks, found, strict=True)]
        revised = (await self.revise.acall(question=question, answer=answer, findings=findings)).revised
        return dspy.Prediction(answer=revised, findings=findings)


QUESTION = {"question": "How many arches has the bridge?"}

PROGRAMS = [
    Program(
        "plan and execute",
        "LLMCompiler, arXiv 2312.04511",
        PlanAndExecute,
        PlanAndExecuteByHand,
        {"goal": "Open a bakery."},
        7,
        5,
        {
            "steps": [
                {"task": "find a house", "needs": []},
                {"task": "find a baker", "needs": []},
                {"task": "build an oven", "needs": [0]},
                {"task": "choose recipes", "needs": [1]},
                {"task": "bake", "needs": [2, 3]},
            ]
        },
    ),
    Program("least to most", "arXiv 2205.10625", LeastToMost, LeastToMostByHand, QUESTION, 4, 4),
    Program("reflexion", "arXiv 2303.11366", Reflexion, ReflexionByHand, {"task": "Write a sonnet."}, 11, 11),
    Program(
        "chain of verification",
        "arXiv 2309.11495",
        ChainOfVerification,
        ChainOfVerificationByHand,
        QUESTION,
        7,
        4,
        {"checks": ["Who counted?", "When?", "Which bridge?", "Was one rebuilt?"]},
    ),
]

"""Programs that ask several times and weigh the answers."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import dspy

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]


class SelfConsistency(dspy.Module):
    """Five samples, the most frequent answer."""

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        self.samples = samples
        self.solve = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        completions = []
        for i in range(self.samples):
            completions.append(self.solve(question=question, config={"rollout_id": i, "temperature": 1.0}))
        return dspy.majority(completions, field="answer")


class SelfConsistencyByHand(SelfConsistency):
    async def aforward(self, question: str) -> Any:
        samples = (
            self.solve.acall(question=question, config={"rollout_id": i, "temperature": 1.0})
            for i in range(self.samples)
        )
        return dspy.majority(list(await asyncio.gather(*samples)), field="answer")


class TreeOfThoughts(dspy.Module):
    """Breadth first: propose, rate, keep the best."""

    def __init__(self, breadth: int = 2, steps: int = 3) -> None:
        super().__init__()
        self.breadth, self.steps = breadth, steps
        self.propose = dspy.Predict("problem, thoughts_so_far -> thoughts: list[str]")
        self.rate = dspy.Predict("problem, thoughts_so_far -> value: float")
        self.conclude = dspy.ChainOfThought("problem, thoughts_so_far -> solution")

    def forward(self, problem: str) -> Any:
        frontier = [""]
        for _step in range(self.steps):
            candidates = []
            for state in frontier:
                for thought in self.propose(problem=problem, thoughts_so_far=state).thoughts:
                    candidates.append(f"{state}\n{thought}".strip())
            values = {c: self.rate(problem=problem, thoughts_so_far=c).value for c in candidates}
            frontier = sorted(candidates, key=lambda c: values[c], reverse=True)[: self.breadth]
        return self.conclude(problem=problem, thoughts_so_far=frontier[0])


class TreeOfThoughtsByHand(TreeOfThoughts):
    async def aforward(self, problem: str) -> Any:
        async def rated(state: str) -> float:
            return (await self.rate.acall(problem=problem, thoughts_so_far=state)).value

        async def grown(state: str) -> list[tuple[str, float]]:
            proposed = await self.propose.acall(problem=problem, thoughts_so_far=state)
            states = [f"{state}\n{thought}".strip() for thought in proposed.thoughts]
            return list(zip(states, await asyncio.gather(*map(rated, states)), strict=True))

        frontier = [""]
        for _step in range(self.steps):
            found = itertools.chain.from_iterable(await asyncio.gather(*map(grown, frontier)))
            frontier = [state for state, _ in sorted(found, key=lambda pair: pair[1], reverse=True)][: self.breadth]
        return await self.conclude.acall(problem=problem, thoughts_so_far=frontier[0])


class Debate(dspy.Module):
    """Agents answer, read each other, answer again; a judge decides."""

    def __init__(
        self, personas: tuple[str, ...] = ("an optimist", "a sceptic", "an accountant"), rounds: int = 2
    ) -> None:
        super().__init__()
        self.personas, self.rounds = personas, rounds
        self.agents = [dspy.ChainOfThought("persona, question, others: list[str] -> answer") for _ in personas]
        self.judge = dspy.Predict("question, answers: list[str] -> verdict")

    def forward(self, question: str) -> Any:
        answers = [
            agent(persona=persona, question=question, others=[]).answer
            for persona, agent in zip(self.personas, self.agents, strict=True)
        ]
        for _ in range(self.rounds):
            revised = []
            for i, agent in enumerate(self.agents):
                others = [answer for j, answer in enumerate(answers) if j != i]
                revised.append(agent(persona=self.personas[i], question=question, others=others).answer)
            answers = revised
        return dspy.Prediction(answers=answers, verdict=self.judge(question=question, answers=answers).verdict)


class DebateByHand(Debate):
    async def aforward(self, question: str) -> Any:
        async def turn(i: int, others: list[str]) -> str:
            return (await self.agents[i].acall(persona=self.personas[i], question=question, others=others)).answer

        everybody = range(len(self.agents))
        answers = await asyncio.gather(*(turn(i, []) for i in everybody))
        for _ in range(self.rounds):
            answers = await asyncio.gather(*(turn(i, [a for j, a in enumerate(answers) if j != i]) for i in everybody))
        judged = await self.judge.acall(question=question, answers=answers)
        return dspy.Prediction(answers=answers, verdict=judged.verdict)


class MixtureOfAgents(dspy.Module):
    """Layers of proposers, each of which reads the whole layer before it."""

    def __init__(self, layers: int = 3, width: int = 3) -> None:
        super().__init__()
        self.layers = [[dspy.Predict("question, references -> response") for _ in range(width)] for _ in range(layers)]
        self.aggregate = dspy.ChainOfThought("question, references -> response")

    def forward(self, question: str) -> Any:
        references = "none"
        for layer in self.layers:
            responses = [
                proposer(question=f"[{k}] {question}", references=references) for k, proposer in enumerate(layer)
            ]
            references = "\n".join(f"- {each.response}" for each in responses)
        return self.aggregate(question=question, references=references)


class MixtureOfAgentsByHand(MixtureOfAgents):
    async def aforward(self, question: str) -> Any:
        references = "none"
        for layer in self.layers:
            responses = await asyncio.gather(
                *(
                    proposer.acall(question=f"[{k}] {question}", references=references)
                    for k, proposer in enumerate(layer)
                )
            )
            references = "\n".join(f"- {each.response}" for each in responses)
        return await self.aggregate.acall(question=question, references=references)


class Judge(dspy.Signature):
    """Judge an answer by one criterion."""

    question: str = dspy.InputField()
    answer: str = dspy.InputField()
    criterion: str = dspy.InputField()
    grade: int = dspy.OutputField(desc="from 1 to 5")
    remark: str = dspy.OutputField()


class JudgePanel(dspy.Module):
    """Every judge by every criterion; grades are averaged, and disagreement is settled by a chair."""

    criteria = ("correct", "clear", "complete", "kind")

    def __init__(self) -> None:
        super().__init__()
        self.judges = {"strict": dspy.Predict(Judge), "lenient": dspy.ChainOfThought(Judge)}
        self.chair = dspy.Predict("question, answer, remarks: list[str] -> verdict")

    def forward(self, question: str, answer: str) -> Any:
        grades: dict[str, list[int]] = {}
        remarks = []
        for name, judge in self.judges.items():
            for criterion in self.criteria:
                judged = judge(question=question, answer=answer, criterion=criterion)
                grades.setdefault(criterion, []).append(judged.grade)
                remarks.append(f"{name} on {criterion}: {judged.remark}")
        means = {criterion: sum(given) / len(given) for criterion, given in grades.items()}
        verdict = self.chair(question=question, answer=answer, remarks=remarks).verdict
        return dspy.Prediction(means=means, total=round(sum(means.values()), 2), verdict=verdict)


class JudgePanelByHand(JudgePanel):
    async def aforward(self, question: str, answer: str) -> Any:
        pairs = [(name, criterion) for name in self.judges for criterion in self.criteria]
        found = await asyncio.gather(
            *(self.judges[name].acall(question=question, answer=answer, criterion=c) for name, c in pairs)
        )
        remarks = [f"{name} on {c}: {each.remark}" for (name, c), each in zip(pairs, found, strict=True)]
        grades = {
            c: [each.grade for (_, own), each in zip(pairs, found, strict=True) if own == c] for c in self.criteria
        }
        means = {criterion: sum(given) / len(given) for criterion, given in grades.items()}
        verdict = (await self.chair.acall(question=question, answer=answer, remarks=remarks)).verdict
        return dspy.Prediction(means=means, total=round(sum(means.values()), 2), verdict=verdict)


class BestByScore(dspy.Module):
    """Several drafts, each rated, the best one polished."""

    def __init__(self, drafts: int = 4) -> None:
        super().__init__()
        self.drafts = drafts
        self.draft = dspy.Predict("brief, angle: int -> draft")
        self.rate = dspy.Predict("brief, draft -> score: float")
        self.polish = dspy.Predict("draft -> text")

    def forward(self, brief: str) -> Any:
        best, best_score = None, -1.0
        for angle in range(self.drafts):
            draft = self.draft(brief=brief, angle=angle).draft
            score = self.rate(brief=brief, draft=draft).score
            if score > best_score:
                best, best_score = draft, score
        return dspy.Prediction(text=self.polish(draft=best).text, score=best_score)


class BestByScoreByHand(BestByScore):
    async def aforward(self, brief: str) -> Any:
        async def rated(angle: int) -> tuple[str, float]:
            draft = (await self.draft.acall(brief=brief, angle=angle)).draft
            return draft, (await self.rate.acall(brief=brief, draft=draft)).score

        best, score = max(await asyncio.gather(*map(rated, range(self.drafts))), key=lambda pair: pair[1])
        return dspy.Prediction(text=(await self.polish.acall(draft=best)).text, score=score)


class GeneratedKnowledge(dspy.Module):
    """Statements of knowledge, an answer with each, the answer of which the LM is surest."""

    def __init__(self) -> None:
        super().__init__()
        self.recall = dspy.Predict("question, topic -> knowledge")
        self.answer = dspy.Predict("question, knowledge -> answer, confidence: float")

    def forward(self, question: str, topics: list[str]) -> Any:
        knowledge = [self.recall(question=question, topic=topic).knowledge for topic in topics]
        answers = [self.answer(question=question, knowledge=each) for each in knowledge]
        return max(answers, key=lambda answer: answer.confidence)


class GeneratedKnowledgeByHand(GeneratedKnowledge):
    async def aforward(self, question: str, topics: list[str]) -> Any:
        async def answered(topic: str) -> Any:
            recalled = await self.recall.acall(question=question, topic=topic)
            return await self.answer.acall(question=question, knowledge=recalled.knowledge)

        return max(await asyncio.gather(*map(answered, topics)), key=lambda answer: answer.confidence)


QUESTION = {"question": "Should the town buy a second bridge?"}

PROGRAMS = [
    Program("self-consistency", "arXiv 2203.11171", SelfConsistency, SelfConsistencyByHand, QUESTION, 5, 1),
    Program(
        "tree of thoughts",
        "arXiv 2305.10601",
        TreeOfThoughts,
        TreeOfThoughtsByHand,
        {"problem": "Make 24 of 4, 9, 10 and 13."},
        (1 + 2) + (2 + 4) + (2 + 4) + 1,
        7,
    ),
    Program("debate", "arXiv 2305.14325", Debate, DebateByHand, QUESTION, 10, 4),
    Program("mixture of agents", "arXiv 2406.04692", MixtureOfAgents, MixtureOfAgentsByHand, QUESTION, 10, 4),
    Program("judge panel", "arXiv 2404.18796", JudgePanel, JudgePanelByHand, {**QUESTION, "answer": "Yes."}, 9, 2),
    Program("best of four drafts", "rejection sampling", BestByScore, BestByScoreByHand, {"brief": "A slogan."}, 9, 3),
    Program(
        "generated knowledge",
        "arXiv 2110.08387",
        GeneratedKnowledge,
        GeneratedKnowledgeByHand,
        {**QUESTION, "topics": ["cost", "traffic", "floods"]},
        6,
        2,
    ),
]

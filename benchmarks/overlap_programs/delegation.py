"""Programs that leave the work to others: experts, reviewers, modules of their own."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy

from benchmarks.overlap_programs.program import Program

__all__ = ["PROGRAMS"]


class Route(dspy.Signature):
    """Decide who should answer."""

    question: str = dspy.InputField()
    kind: Literal["sums", "facts", "chat"] = dspy.OutputField()


class Router(dspy.Module):
    """The kind of question decides who answers; safety and language are looked at in any case."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(Route)
        self.experts = {
            "sums": dspy.ChainOfThought("question -> answer"),
            "facts": dspy.Predict("question -> answer"),
        }
        self.chat = dspy.Predict("question -> answer")
        self.is_safe = dspy.Predict("question -> safe: bool")
        self.language = dspy.Predict("question -> language")
        self.finish = dspy.Predict("answer, language -> reply")

    def forward(self, question: str) -> Any:
        kind = self.route(question=question).kind
        if kind in self.experts:
            answer = self.experts[kind](question=question).answer
        else:
            answer = self.chat(question=question).answer
        safe = self.is_safe(question=question).safe
        language = self.language(question=question).language
        reply = self.finish(answer=answer, language=language).reply
        return dspy.Prediction(reply=reply if safe else "I would rather not.", kind=kind)


class RouterByHand(Router):
    async def aforward(self, question: str) -> Any:
        async def answered() -> tuple[str, str]:
            kind = (await self.route.acall(question=question)).kind
            return kind, (await self.experts.get(kind, self.chat).acall(question=question)).answer

        (kind, answer), safe, language = await asyncio.gather(
            answered(), self.is_safe.acall(question=question), self.language.acall(question=question)
        )
        reply = (await self.finish.acall(answer=answer, language=language.language)).reply
        return dspy.Prediction(reply=reply if safe.safe else "I would rather not.", kind=kind)


class CodeReview(dspy.Module):
    """Every file past every reviewer; what they found is merged by file, then ranked."""

    def __init__(self) -> None:
        super().__init__()
        self.reviewers = {
            topic: dspy.ChainOfThought("topic, path, code -> remarks: list[str], severity: int")
            for topic in ("security", "style", "speed")
        }
        self.merge = dspy.Predict("path, remarks: list[str] -> review")
        self.decide = dspy.Predict("reviews: dict[str, str], worst: int -> decision")

    def forward(self, files: dict[str, str]) -> Any:
        reviews, worst = {}, 0
        for path, code in files.items():
            remarks: list[str] = []
            for topic, reviewer in self.reviewers.items():
                found = reviewer(topic=topic, path=path, code=code)
                remarks += [f"[{topic}] {remark}" for remark in found.remarks]
                worst = max(worst, found.severity)
            reviews[path] = self.merge(path=path, remarks=remarks).review
        decision = self.decide(reviews=reviews, worst=worst).decision
        return dspy.Prediction(reviews=reviews, worst=worst, decision=decision)


class CodeReviewByHand(CodeReview):
    async def aforward(self, files: dict[str, str]) -> Any:
        async def reviewed(path: str, code: str) -> tuple[str, int]:
            found = await asyncio.gather(
                *(reviewer.acall(topic=topic, path=path, code=code) for topic, reviewer in self.reviewers.items())
            )
            remarks = [f"[{t}] {r}" for t, each in zip(self.reviewers, found, strict=True) for r in each.remarks]
            return (await self.merge.acall(path=path, remarks=remarks)).review, max(each.severity for each in found)

        found = await asyncio.gather(*(reviewed(path, code) for path, code in files.items()))
        reviews = {path: review for path, (review, _) in zip(files, found, strict=True)}
        worst = max(severity for _, severity in found)
        decision = (await self.decide.acall(reviews=reviews, worst=worst)).decision
        return dspy.Prediction(reviews=reviews, worst=worst, decision=decision)


class BranchOnScore(dspy.Module):
    """A doubtful answer is worked on while the rest goes its way."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer, confidence: float")
        self.improve = dspy.ChainOfThought("question, draft -> answer")
        self.sources = dspy.Predict("question -> sources: list[str]")
        self.quote = dspy.Predict("source -> quotation")
        self.finish = dspy.Predict("answer, quotations: list[str] -> text")

    def forward(self, question: str) -> Any:
        first = self.answer(question=question)
        answer = first.answer
        if first.confidence < 0.99:
            answer = self.improve(question=question, draft=answer).answer
        sources = self.sources(question=question).sources
        quotations = [f'"{self.quote(source=source).quotation}" ({source})' for source in sources]
        return self.finish(answer=answer, quotations=quotations)


class BranchOnScoreByHand(BranchOnScore):
    async def aforward(self, question: str) -> Any:
        async def answered() -> str:
            first = await self.answer.acall(question=question)
            if first.confidence < 0.99:
                return (await self.improve.acall(question=question, draft=first.answer)).answer
            return first.answer

        async def quoted() -> list[str]:
            sources = (await self.sources.acall(question=question)).sources
            found = await asyncio.gather(*(self.quote.acall(source=source) for source in sources))
            return [f'"{each.quotation}" ({source})' for each, source in zip(found, sources, strict=True)]

        answer, quotations = await asyncio.gather(answered(), quoted())
        return await self.finish.acall(answer=answer, quotations=quotations)


class Paragraph(dspy.Module):
    """A claim and its evidence, in prose."""

    def __init__(self) -> None:
        super().__init__()
        self.claim = dspy.Predict("heading, idea -> claim")
        self.evidence = dspy.Predict("heading, idea -> evidence")
        self.write = dspy.Predict("claim, evidence -> prose")

    def forward(self, heading: str, idea: str) -> Any:
        claim = self.claim(heading=heading, idea=idea).claim
        evidence = self.evidence(heading=heading, idea=idea).evidence
        return self.write(claim=claim, evidence=evidence)


class ParagraphByHand(Paragraph):
    async def aforward(self, heading: str, idea: str) -> Any:
        claim, evidence = await asyncio.gather(
            self.claim.acall(heading=heading, idea=idea), self.evidence.acall(heading=heading, idea=idea)
        )
        return await self.write.acall(claim=claim.claim, evidence=evidence.evidence)


class Section(dspy.Module):
    """Ideas, a paragraph for each."""

    part: type[Paragraph] = Paragraph

    def __init__(self) -> None:
        super().__init__()
        self.ideas = dspy.Predict("heading -> ideas: list[str]")
        self.paragraph = self.part()

    def forward(self, heading: str) -> Any:
        paragraphs = [self.paragraph(heading=heading, idea=idea).prose for idea in self.ideas(heading=heading).ideas]
        return dspy.Prediction(heading=heading, text="\n".join(paragraphs))


class SectionByHand(Section):
    part = ParagraphByHand

    async def aforward(self, heading: str) -> Any:
        ideas = (await self.ideas.acall(heading=heading)).ideas
        found = await asyncio.gather(*(self.paragraph.acall(heading=heading, idea=idea) for idea in ideas))
        return dspy.Prediction(heading=heading, text="\n".join(each.prose for each in found))


class NestedReport(dspy.Module):
    """Modules in modules in modules."""

    part: type[Section] = Section

    def __init__(self) -> None:
        super().__init__()
        self.section = self.part()
        self.abstract = dspy.ChainOfThought("texts: list[str] -> abstract")

    def forward(self, headings: list[str]) -> Any:
        sections = []
        for heading in headings:
            section = self.section(heading=heading)
            sections.append(f"# {section.heading}\n{section.text}")
        return dspy.Prediction(abstract=self.abstract(texts=sections).abstract, sections=sections)


class NestedReportByHand(NestedReport):
    part = SectionByHand

    async def aforward(self, headings: list[str]) -> Any:
        found = await asyncio.gather(*(self.section.acall(heading=heading) for heading in headings))
        sections = [f"# {section.heading}\n{section.text}" for section in found]
        return dspy.Prediction(abstract=(await self.abstract.acall(texts=sections)).abstract, sections=sections)


class RepositoryAnalyzer(dspy.Module):
    """DSPy's tutorial on generating llms.txt."""

    def __init__(self) -> None:
        super().__init__()
        self.analyze_repo = dspy.ChainOfThought(
            "repo_url, file_tree, readme_content -> project_purpose, key_concepts: list[str]"
        )
        self.analyze_structure = dspy.ChainOfThought(
            "file_tree, package_files -> important_directories: list[str], entry_points: list[str]"
        )
        self.generate_examples = dspy.ChainOfThought("repo_info -> usage_examples")
        self.generate_llms_txt = dspy.ChainOfThought(
            "project_purpose, key_concepts: list[str], important_directories: list[str], usage_examples -> llms_txt"
        )

    def forward(self, repo_url: str, file_tree: str, readme_content: str, package_files: str) -> Any:
        repo_analysis = self.analyze_repo(repo_url=repo_url, file_tree=file_tree, readme_content=readme_content)
        structure_analysis = self.analyze_structure(file_tree=file_tree, package_files=package_files)
        usage_examples = self.generate_examples(
            repo_info=f"Purpose: {repo_analysis.project_purpose}\nConcepts: {', '.join(repo_analysis.key_concepts)}"
        )
        llms_txt = self.generate_llms_txt(
            project_purpose=repo_analysis.project_purpose,
            key_concepts=repo_analysis.key_concepts,
            important_directories=structure_analysis.important_directories,
            usage_examples=usage_examples.usage_examples,
        )
        return dspy.Prediction(llms_txt=llms_txt.llms_txt, analysis=repo_analysis, structure=structure_analysis)


class RepositoryAnalyzerByHand(RepositoryAnalyzer):
    async def aforward(self, repo_url: str, file_tree: str, readme_content: str, package_files: str) -> Any:
        structuring = asyncio.create_task(
            self.analyze_structure.acall(file_tree=file_tree, package_files=package_files)
        )
        repo = await self.analyze_repo.acall(repo_url=repo_url, file_tree=file_tree, readme_content=readme_content)
        info = f"Purpose: {repo.project_purpose}\nConcepts: {', '.join(repo.key_concepts)}"
        examples = await self.generate_examples.acall(repo_info=info)
        structure = await structuring
        llms_txt = await self.generate_llms_txt.acall(
            project_purpose=repo.project_purpose,
            key_concepts=repo.key_concepts,
            important_directories=structure.important_directories,
            usage_examples=examples.usage_examples,
        )
        return dspy.Prediction(llms_txt=llms_txt.llms_txt, analysis=repo, structure=structure)


QUESTION = {"question": "How many arches has the bridge?"}

PROGRAMS = [
    Program("routing", "LangChain, router", Router, RouterByHand, QUESTION, 5, 3),
    Program(
        "code review",
        "review panel",
        CodeReview,
        CodeReviewByHand,
        {"files": {"a.py": "print(1)", "b.py": "eval(input())", "c.py": "while True: pass"}},
        3 * 4 + 1,
        3,
    ),
    Program(
        "branch on a score", "self-refine", BranchOnScore, BranchOnScoreByHand, QUESTION, 6, 3, {"confidence": 0.5}
    ),
    Program(
        "nested modules",
        "modules in modules",
        NestedReport,
        NestedReportByHand,
        {"headings": ["Water", "Stone", "Iron"]},
        3 * (1 + 2 * 3) + 1,
        4,
    ),
    Program(
        "llms.txt",
        "DSPy tutorial, llms.txt generation",
        RepositoryAnalyzer,
        RepositoryAnalyzerByHand,
        {
            "repo_url": "https://example.com/repo",
            "file_tree": "a.py\nb.py",
            "readme_content": "A library.",
            "package_files": "pyproject.toml",
        },
        4,
        3,
    ),
]

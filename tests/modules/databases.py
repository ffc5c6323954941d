"""Modules that talk to a database around an LM call, through Django's ORM, peewee and SQLAlchemy's default pool.

All three depend on their thread, or block it: Django refuses a running event loop, peewee's pool gives one connection
to a thread, and SQLAlchemy's has 15 places for 20 programs that each keep one over their LM call.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import dspy

from dspy_parallel import async_module, batch, gather, placement_of
from dspy_parallel.testing import LMServer

CROWD = 20


class Asks(dspy.Module):
    """Puts the question into the database, asks, and returns the question as the database has it, with the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")


def with_django(folder: Path) -> type[Asks]:
    import django
    from django.conf import settings
    from django.db import connection, models

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "django.db", "OPTIONS": {"timeout": 60}}
    settings.configure(DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    django.setup()

    class Note(models.Model):
        text = models.TextField()

        class Meta:
            app_label = "notes"

    with connection.schema_editor() as editor:
        editor.create_model(Note)

    @async_module
    class WithDjango(Asks):
        def forward(self, question: str) -> Any:
            try:
                note = Note.objects.create(text=question)
                answer = self.predict(question=question).answer
                return Note.objects.get(pk=note.pk).text, answer
            finally:
                connection.close()

    return WithDjango


def with_peewee(folder: Path) -> type[Asks]:
    import peewee
    from playhouse.pool import PooledSqliteDatabase

    options = {"max_connections": 10, "timeout": 60, "check_same_thread": False, "pragmas": {"busy_timeout": 60_000}}
    database = PooledSqliteDatabase(folder / "peewee.db", **options)

    class Note(peewee.Model):
        text = peewee.TextField()

    database.bind([Note])
    with database.connection_context():
        database.create_tables([Note])

    @async_module
    class WithPeewee(Asks):
        def forward(self, question: str) -> Any:
            with database.connection_context():
                note = Note.create(text=question)
                answer = self.predict(question=question).answer
                return Note.get_by_id(note.id).text, answer

    return WithPeewee


def with_sqlalchemy(folder: Path) -> type[Asks]:
    import sqlalchemy as sql

    notes = sql.Table(
        "notes", sql.MetaData(), sql.Column("id", sql.Integer, primary_key=True), sql.Column("text", sql.Text)
    )
    engine = sql.create_engine(f"sqlite:///{folder / 'sqlalchemy.db'}", connect_args={"timeout": 60})
    assert engine.pool.status().startswith("Pool size: 5")
    notes.create(engine)

    @async_module
    class WithSQLAlchemy(Asks):
        def forward(self, question: str) -> Any:
            with engine.connect() as connection:
                key = connection.execute(notes.insert().values(text=question)).inserted_primary_key[0]
                connection.commit()
                answer = self.predict(question=question).answer
                return connection.execute(sql.select(notes.c.text).where(notes.c.id == key)).scalar_one(), answer

    return WithSQLAlchemy


def main(folder: str, *libraries: str) -> None:
    """Run each of them in each way, first and later, and print what is not as one after the other."""
    warnings.simplefilter("ignore")
    makers = {"django": with_django, "peewee": with_peewee, "sqlalchemy": with_sqlalchemy}
    questions = [f"question {number}" for number in range(CROWD)]
    with LMServer(latency=0.02) as server:
        dspy.configure(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs()))
        for library in libraries:
            program = makers[library](Path(folder))()
            print(json.dumps([library, placement_of(program).engine, wrong_runs(program, questions)]))


def wrong_runs(program: Any, questions: list[str]) -> list[int]:
    wanted = [program(question=question) for question in questions]
    assert [question for question, _ in wanted] == questions

    async def crowd() -> Any:
        return await asyncio.gather(*(program.acall(question=question) for question in questions))

    return [
        run
        for run in range(2)
        if asyncio.run(crowd()) != wanted
        or gather(*[lambda question=question: program(question=question) for question in questions]) != wanted
        or batch(program, [{"question": question} for question in questions], progress=False) != wanted
    ]

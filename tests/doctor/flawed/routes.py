"""Routes of an app: async ones, of its own and of a router, that block."""

from typing import Annotated

import dspy
from fastapi import APIRouter, Depends, FastAPI
from requests import Session

predict = dspy.Predict("question -> answer")
app, router = FastAPI(), APIRouter(prefix="/more")


@app.get("/ask")
async def ask(question: str):
    return predict(question=question).answer  # flaw: blocks-loop


@app.get("/fine")
def fine(question: str):
    return predict(question=question).answer


@router.post("/again")
async def again(question: str, client: Annotated[Session, Depends(Session)]):
    client.get("http://127.0.0.1/")  # flaw: blocks-loop
    return dspy.settings.lm(question)  # flaw: blocks-loop


app.include_router(router)

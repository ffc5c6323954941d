"""An app whose async routes await, and whose sync ones have the server's threads."""

import dspy
from fastapi import FastAPI

predict = dspy.Predict("question -> answer")
app = FastAPI()


@app.get("/ask")
async def ask(question: str):
    return (await predict.acall(question=question)).answer


@app.get("/sync")
def sync(question: str):
    return predict(question=question).answer

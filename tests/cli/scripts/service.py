from fastapi import FastAPI
from fastapi.testclient import TestClient
from lm import Summaries

app = FastAPI()


@app.get("/{text}")
def ask(text: str):
    return {"answer": Summaries()(text=text).answer}


@app.get("/awaited/{text}")
async def ask_async(text: str):
    return {"answer": Summaries()(text=text).answer}


with TestClient(app) as client:
    print(client.get("/a").json(), client.get("/awaited/a").json())

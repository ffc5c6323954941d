"""Clients of HTTP and of models that have an async twin, used in async code."""

import dspy
import httpx
import openai

predict = dspy.Predict("text -> short")


class Asker:
    def __init__(self):
        self.client = openai.OpenAI(api_key="none")

    async def ask(self, text):
        page = httpx.get("http://127.0.0.1/").text  # flaw: blocks-loop
        with httpx.Client() as client:
            page += client.get("http://127.0.0.1/").text  # noqa: ASYNC212  # flaw: blocks-loop
        page += (await predict.acall(text=text)).short
        return self.client.chat.completions.create(model="any", messages=[{"content": page}])  # flaw: blocks-loop


asker = Asker()


async def ask(text):
    return await asker.ask(text)

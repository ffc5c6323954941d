"""Blocking HTTP clients in a program: requests, urllib3, httpx, urllib, and what DSPy downloads with them."""

# ruff: noqa: B023 - the functions are called before the loop variable changes

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import dspy
import httpx
import pytest
import requests
import urllib3

from dspy_parallel.errors import ThreadRequiredError
from tests.seams.programs import alone, outcome, together
from tests.seams.web import Web

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def by_requests(url: str) -> Any:
    response = requests.get(url, timeout=240)
    response.raise_for_status()
    return response.text, [r.status_code for r in response.history]


def by_session(url: str) -> Any:
    with requests.Session() as session:
        session.headers["X-Test"] = "yes"
        response = session.post(url, data=b"body", timeout=240)
        response.raise_for_status()
        return response.text, response.request.headers["X-Test"]


def by_requests_stream(url: str) -> Any:
    with requests.get(url, stream=True, timeout=240) as response:
        response.raise_for_status()
        return list(response.iter_lines())


def by_urllib3(url: str) -> Any:
    with urllib3.PoolManager() as pool:
        return pool.request("GET", url, timeout=240).data


def by_httpx(url: str) -> Any:
    with httpx.Client(timeout=240, follow_redirects=True) as client:
        return client.get(url).raise_for_status().text


def by_httpx_stream(url: str) -> Any:
    with httpx.Client(timeout=240) as client, client.stream("GET", url) as response:
        response.raise_for_status()
        return list(response.iter_lines())


def by_httpx_read(url: str) -> Any:
    with httpx.stream("GET", url, timeout=240) as response:
        return response.read()


def by_urllib(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=240) as response:
        return response.status, response.read()


def by_urllib_lines(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=240) as response:
        return [*response]


def by_urllib_pieces(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=240) as response:
        return response.read1(), response.read(3), response.readline(), response.read()


CLIENTS = [
    by_requests,
    by_session,
    by_requests_stream,
    by_urllib3,
    by_httpx,
    by_httpx_stream,
    by_httpx_read,
    by_urllib,
    by_urllib_lines,
    by_urllib_pieces,
]
if importlib.util.find_spec("httpx2"):

    def by_httpx2(url: str) -> Any:
        import httpx2

        with httpx2.Client(timeout=240) as client, client.stream("GET", url) as response:
            response.raise_for_status()
            return response.read()

    CLIENTS.append(by_httpx2)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_requests_overlap_and_give_what_they_give(web: Web, client: Callable[[str], Any]) -> None:
    def without_port(result: tuple[Any, ...]) -> Any:
        return result[0], str(result[1]).replace(str(web.port), "PORT")

    for path in ("/plain", "/stream", "/redirect", "/missing"):
        web.barrier = None
        url = web.url + path
        plain = outcome(lambda: client(url))
        web.meet(3)  # the server answers only when all three are there; streams go on only together
        for result in together(lambda: outcome(lambda: client(url)), 3):
            assert without_port(result) == without_port(plain), path


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_requests_need_a_thread(web: Web, client: Callable[[str], Any]) -> None:
    with pytest.raises(ThreadRequiredError, match="blocking request"):
        alone(lambda: client(web.url + "/plain"), engine="loop")


def test_a_refused_connection_is_the_same_error() -> None:
    for client, error in (
        (by_requests, requests.ConnectionError),
        (by_httpx, httpx.ConnectError),
        (by_urllib, urllib.error.URLError),
    ):
        with pytest.raises(error):
            alone(lambda: client("http://127.0.0.1:9/"))


def test_a_subclass_of_a_session(web: Web) -> None:
    class Counting(requests.Session):
        sent = 0

        def send(self, request: Any, **kwargs: Any) -> Any:
            self.sent += 1
            return super().send(request, **kwargs)

    web.meet(2)

    def program() -> Any:
        with Counting() as session:
            return session.get(web.url + "/plain", timeout=240).text, session.sent

    assert together(program, 2) == [("plain text", 1)] * 2


def test_a_body_may_be_read_after_the_program(web: Web) -> None:
    pieces = alone(lambda: requests.get(web.url + "/stream", stream=True, timeout=240).iter_content(None))
    assert b"".join(pieces) == b"piece 0\npiece 1\npiece 2\n"


def test_images_are_downloaded_in_threads(web: Web) -> None:
    def download() -> Any:
        try:
            image = dspy.Image(web.url + "/plain.png", download=True)
        except TypeError:
            image = dspy.Image.from_url(web.url + "/plain.png", download=True)
        return image.url

    plain = download()
    web.meet(3)
    assert together(download, 3) == [plain] * 3
    assert plain.startswith("data:")


def test_colbert(web: Web) -> None:
    search = dspy.ColBERTv2(url=web.url + "/topk")
    web.meet(3)
    bridged = together(lambda n: search(f"query {n}", k=3), 3)
    web.barrier = None
    assert bridged == [search(f"query {n}", k=3) for n in range(3)]
    with pytest.raises(ThreadRequiredError, match="retriever"):
        alone(lambda: search("strict"), engine="loop")
